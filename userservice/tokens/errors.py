"""OAuth 2 errors (RFC 6749, section 5.2); clients read `code`."""

from __future__ import annotations

import re

from chassis.errors import InvalidRequest

_QUOTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # all that the RFC leaves out


# Codes of the RFCs 6749 and 7009 that this service has, and codes of its own that no client brings
# about by a fault of its request.
_KNOWN = frozenset(
    (
        *("invalid_grant", "unsupported_grant_type", "unsupported_token_type"),
        *("too_many_requests", "unavailable", "internal_error"),
    )
)


def oauth_members(code: str, detail: str) -> dict[str, str]:
    """Return the members that OAuth 2 clients read, for any error at the token endpoints."""
    # Of a wrong method, size or type the RFCs know no more than this.
    error = code if code in _KNOWN else "invalid_request"
    return {"error": error, "error_description": _QUOTABLE.sub("?", detail)}


class OAuthError(InvalidRequest):
    """The token endpoint refuses the request."""

    code = "invalid_request"
    title = "The request is malformed"


class InvalidGrant(OAuthError):
    """Wrong address, wrong password, spent or expired token; the caller does not learn which."""

    code = "invalid_grant"
    title = "The credentials are not valid"
    remedy = "Log in again, with the address and the password."


class UnsupportedGrantType(OAuthError):
    """A grant other than password and refresh_token."""

    code = "unsupported_grant_type"
    title = "The grant type must be password or refresh_token"
    remedy = "Send one of these grants."


class UnsupportedTokenType(OAuthError):
    """An access token cannot be revoked by itself: it ends with its log-in, or by its age."""

    code = "unsupported_token_type"
    title = "Only refresh tokens can be revoked"
    remedy = "Send the refresh token of the log-in that is to end."
