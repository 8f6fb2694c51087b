"""The documents of /auth: forms as input, JSON as output, as OAuth 2 defines them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic.json_schema import SkipJsonSchema

from chassis.schemas import Problem, Schema

MAX_SECRET = 1024  # longer than any password or refresh token of ours
MAX_TOKEN = 8192  # longer than any access token of ours: RSA of 4096 bits, and sixteen roles
MAX_FORM = 65_536  # longer than any body that is read


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

    token: SecretStr = Field(max_length=MAX_TOKEN)
    token_type_hint: str | None = Field(None, max_length=64)


class IntrospectionRequest(Schema):
    """A token that a service was handed (RFC 7662, section 2.1); any text may be one."""

    token: SecretStr = Field(max_length=MAX_FORM)
    token_type_hint: str | None = Field(None, max_length=MAX_FORM)


def _claim(description: str | None = None) -> Any:
    """Declare a member that is left out where the token does not have it."""
    return Field(
        default_factory=lambda: None,
        exclude_if=lambda value: value is None,
        description=description,
    )


class Introspection(Schema):
    """Whether a token holds; if it does, its claims (RFC 7662, section 2.2)."""

    active: bool = Field(description="Without any other member when false.")
    token_type: Literal["Bearer"] | SkipJsonSchema[None] = _claim()
    iss: str | SkipJsonSchema[None] = _claim()
    aud: str | list[str] | SkipJsonSchema[None] = _claim()
    sub: str | SkipJsonSchema[None] = _claim("The user's id.")
    exp: int | SkipJsonSchema[None] = _claim("Seconds since 1970.")
    iat: int | SkipJsonSchema[None] = _claim("Seconds since 1970.")
    jti: str | SkipJsonSchema[None] = _claim()
    client_id: str | SkipJsonSchema[None] = _claim("In tokens that others can verify.")
    sid: str | SkipJsonSchema[None] = _claim("The log-in.")
    roles: list[str] | SkipJsonSchema[None] = _claim("Of the user, now.")
    email_verified: bool | SkipJsonSchema[None] = _claim("Of the user, now.")
