"""The documents about passwords."""

from __future__ import annotations

from pydantic import Field, SecretStr

from chassis.schemas import Schema
from userservice.tokens.schemas import MAX_SECRET
from userservice.users.schemas import Password


class NewPassword(Schema):
    """A password that is to be the user's."""

    new_password: Password


class PasswordChange(NewPassword):
    """A change by the user, who knows the present password."""

    current_password: SecretStr = Field(max_length=MAX_SECRET)


class PasswordReset(NewPassword):
    """A new password, by the token of a link."""

    token: SecretStr = Field(max_length=MAX_SECRET)


class ForgottenPassword(Schema):
    """An address whose password is forgotten; any text may be one."""

    email: str = Field(
        max_length=320,
        pattern=r"^[^\x00]*$",  # PostgreSQL takes no NUL
        description="E-mail address, in any spelling.",
    )
