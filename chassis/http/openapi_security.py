"""Credentials in the API's description: who may call a route, and the scopes of API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.http.auth import Access, Guard

Requirement = dict[str, list[str]]


def security(access: Access, *, is_registration_open: bool) -> list[Requirement]:
    """Return the credentials for a route, any of which is enough; an empty one is none.

    The scope stands in the list of an API key's roles, which OpenAPI 3.1 allows (section 4.8.30).
    """
    if access.guard is Guard.PUBLIC:
        return []
    is_open = access.guard is Guard.REGISTRAR and is_registration_open
    anonymous: list[Requirement] = [{}] if is_open else []
    keys: list[Requirement] = [] if access.scope is None else [{"apiKey": [access.scope]}]
    bearers: list[Requirement] = [] if access.guard is Guard.SERVICE else [{"oauth2": []}]
    return [*anonymous, *keys, *bearers]


def security_schemes(token_path: str, scopes: Mapping[str, str]) -> dict[str, Any]:
    """Return the kinds of credentials.

    Args:
        token_path: The path that grants and renews access tokens.
        scopes: Scope of API keys -> its meaning.
    """
    flow = {"tokenUrl": token_path, "refreshUrl": token_path, "scopes": {}}
    lines = [f"- `{name}`: {meaning}" for name, meaning in scopes.items()]
    return {
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "\n".join(["A key has some of these scopes:", "", *lines]),
        },
        "oauth2": {"type": "oauth2", "flows": {"password": flow}},
    }


def describe_scopes(access: Access) -> str:
    """Return a sentence about the scopes of a route, for people; empty where keys are of no use."""
    if access.scope is None:
        return ""
    parts = (f", for `{part}` also `{scope}`" for part, scope in access.parts.items())
    return f"An API key needs the scope `{access.scope}`{''.join(parts)}."
