"""Probes and metrics on a port of their own, which no caller of the API has to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Flask, Request
from werkzeug.routing import MapAdapter

from chassis.http.admission import EXEMPT
from chassis.http.flask_app import NOWHERE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Callers may ask which release answers them, so this one is on both ports.
_SHARED = frozenset({"/version"})
_MANAGED = EXEMPT - _SHARED
_KEY = "management_port"


def separate(app: Flask, port: int) -> None:
    """Answer probes and scrapes on this port alone, and all else on the others alone: else 404."""
    app.extensions[_KEY] = port
    find_route = app.create_url_adapter

    def find_by_port(request: Request | None) -> MapAdapter | None:
        adapter = find_route(request)
        if request is not None and _is_elsewhere(request.environ, str(port)):
            cast("MapAdapter", adapter).path_info = NOWHERE
        return adapter

    app.create_url_adapter = find_by_port  # type: ignore[method-assign]


def is_managed(app: Flask, path: str) -> bool:
    """Tell whether a path is missing from the API's port, because the other one has it."""
    return _KEY in app.extensions and path in _MANAGED


def _is_elsewhere(environ: WSGIEnvironment, port: str) -> bool:
    path = environ["PATH_INFO"]
    return path not in EXEMPT if environ["SERVER_PORT"] == port else path in _MANAGED
