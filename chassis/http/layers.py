"""WSGI layers: what a request passes through before Flask sees it, and its answer after."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# Wraps an application, as it is so far.
Layer = Callable[[Flask], "WSGIApplication"]


def wrap(app: Flask, layers: Iterable[Layer]) -> None:
    """Put layers around an application, the outermost first."""
    for layer in reversed(tuple(layers)):
        app.wsgi_app = cast("Any", layer(app))  # type: ignore[method-assign]
