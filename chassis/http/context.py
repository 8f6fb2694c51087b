"""What the web application is made of: one object, under one key, for whoever serves a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from flask import Flask, current_app

if TYPE_CHECKING:
    from chassis.backing_services import BackingServices
    from chassis.http.auth import Authenticator
    from chassis.http.health import Readiness
    from chassis.http.openapi import Api
    from chassis.http.rate_limit import RateLimiter
    from chassis.security import PageTokens

T = TypeVar("T")
_KEY = "web_context"


class Closing(Protocol):
    """Holds something that has to be given back at the end."""

    def close(self) -> None:
        """Give it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What runs, and where."""

    service: str
    version: str
    build_id: str
    environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebContext:
    """The parts of one web application.

    `parts` holds what resources need beside them, each under its type.
    """

    about: About
    api: Api
    services: BackingServices
    telemetry: Closing
    authenticator: Authenticator
    rate_limiter: RateLimiter | None
    readiness: Readiness
    page_tokens: PageTokens
    parts: Mapping[type, Any] = field(default_factory=dict)

    def part(self, kind: type[T]) -> T:
        """Return what a resource brought along.

        Raises:
            KeyError: create_app() was not told of it.
        """
        return cast("T", self.parts[kind])


def set_context(app: Flask, context: WebContext) -> None:
    """Give an application its parts."""
    app.extensions[_KEY] = context


def context_of(app: Flask) -> WebContext:
    """Return the parts of an application."""
    return cast("WebContext", app.extensions[_KEY])


def web_context() -> WebContext:
    """Return the parts of the application that serves this request."""
    return context_of(current_app)


def backing_services() -> BackingServices:
    """Return the attached resources of the application that serves this request."""
    return web_context().services
