"""WSGI layers: a request passes through them on its way to Flask, its answer on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# Wraps an application together with the layers that it already has.
Layer = Callable[[Flask], "WSGIApplication"]


def wrap(app: Flask, layers: Iterable[Layer]) -> None:
    """Put layers around an application, the outermost first."""
    for layer in reversed(tuple(layers)):
        app.wsgi_app = cast("Any", layer(app))  # type: ignore[method-assign]
