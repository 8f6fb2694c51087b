"""The documents of /auth: forms as input, JSON as output, as OAuth 2 defines them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from chassis.schemas import Problem, Schema

MAX_SECRET = 1024  # longer than any password or token of ours


class TokenRequest(Schema):
    """A grant (RFC 6749, sections 4.3.2 and 6)."""

    grant_type: Literal["password", "refresh_token"]
    username: str | None = Field(
        None,
        max_length=320,
        pattern=r"^[^\x00]*$",  # PostgreSQL takes no NUL
        description="E-mail address.",
    )
    password: SecretStr | None = Field(None, max_length=MAX_SECRET)
    refresh_token: SecretStr | None = Field(None, max_length=MAX_SECRET)


class TokenResponse(Schema):
    """Tokens (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int = Field(description="Seconds.")
    refresh_token: str


class OAuthProblem(Problem):
    """An error, with the members that OAuth 2 clients read (RFC 6749, section 5.2)."""

    error: str = Field(description="A code of OAuth 2.")
    error_description: str


class RevocationRequest(Schema):
    """A token that is no longer needed (RFC 7009)."""

    token: SecretStr = Field(max_length=MAX_SECRET)
    token_type_hint: str | None = Field(None, max_length=64)
