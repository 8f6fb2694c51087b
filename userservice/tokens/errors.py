"""OAuth 2 errors (RFC 6749, section 5.2); clients read `code`."""

from __future__ import annotations

from chassis.errors import InvalidRequest


def oauth_members(code: str, detail: str) -> dict[str, str]:
    """Return the members that OAuth 2 clients read, for any error at the token endpoints."""
    return {"error": code, "error_description": detail}


class OAuthError(InvalidRequest):
    """The token endpoint refuses the request."""

    code = "invalid_request"
    title = "The request is malformed"


class InvalidGrant(OAuthError):
    """Wrong address, wrong password, spent or expired token; the caller does not learn which."""

    code = "invalid_grant"
    title = "The credentials are not valid"


class UnsupportedGrantType(OAuthError):
    """A grant other than password and refresh_token."""

    code = "unsupported_grant_type"
    title = "The grant type must be password or refresh_token"


class UnsupportedTokenType(OAuthError):
    """An access token cannot be revoked: it ends by itself, or with its user."""

    code = "unsupported_token_type"
    title = "Only refresh tokens can be revoked"
