"""Guards: every route says above its view who may call it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar

from flask import current_app, request

from userservice.errors import Unauthenticated
from userservice.security import same_secret

View = TypeVar("View", bound=Callable[..., Any])


class Guard(StrEnum):
    """Who may call a route."""

    PUBLIC = "public"
    API_KEY = "api key"


def public(view: View) -> View:
    """Let everyone in."""
    view.__dict__["guard"] = Guard.PUBLIC
    return view


def api_key_required(view: View) -> View:
    """Let in who sends the API key."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if not same_secret(request.headers.get("X-API-Key", ""), current_app.config["API_KEY"]):
            raise Unauthenticated
        return view(*args, **kwargs)

    guarded.__dict__["guard"] = Guard.API_KEY
    return guarded  # type: ignore[return-value]  # the same signature


def guard_of(view: Callable[..., Any]) -> Guard | None:
    """Return a view's guard; None when it has none, which a test forbids."""
    return view.__dict__.get("guard")
