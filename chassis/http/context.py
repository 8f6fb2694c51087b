"""The parts of the web application: one object, under one key, read while serving a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from flask import Flask, current_app

if TYPE_CHECKING:
    from chassis.backing_services import BackingServices
    from chassis.http.authenticator import Authenticator
    from chassis.http.health import Readiness
    from chassis.http.openapi import Api
    from chassis.http.rate_limit import RateLimiter
    from chassis.signatures import PageTokens

T = TypeVar("T")
_KEY = "web_context"


class Closing(Protocol):
    """An object that has to be closed at the end."""

    def close(self) -> None:
        """Release the resources that it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Name, version, build and environment of the service that runs."""

    service: str
    version: str
    build_id: str
    environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebContext:
    """The parts of one web application.

    `parts` holds further objects that resources need, each under its type.
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
        """Return the object of a type that a resource handed in.

        Raises:
            KeyError: create_app() got no object of this type.
        """
        return cast("T", self.parts[kind])


def set_context(app: Flask, context: WebContext) -> None:
    """Give an application its parts."""
    app.extensions[_KEY] = context


def context_of(app: Flask) -> WebContext:
    """Return the parts of an application."""
    found: WebContext = app.extensions[_KEY]
    return found


def web_context() -> WebContext:
    """Return the parts of the application that serves this request."""
    return context_of(current_app)


def backing_services() -> BackingServices:
    """Return the attached resources of the application that serves this request."""
    return web_context().services
