"""The documents of /users/{id}/email and /auth/email."""

from __future__ import annotations

from pydantic import Field, SecretStr

from chassis.schemas import Schema
from userservice.tokens.schemas import MAX_SECRET
from userservice.users.schemas import Email


class EmailChange(Schema):
    """The wish for another address."""

    email: Email
    current_password: SecretStr = Field(
        max_length=MAX_SECRET, description="An access token alone moves no account."
    )


class EmailConfirmation(Schema):
    """A link, as it was mailed."""

    token: SecretStr = Field(max_length=MAX_SECRET, description="The part behind the #.")
