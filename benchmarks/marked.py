"""The service, started as it is by gunicorn, and a path at which callgrind notes its count.

With the argument `silent` it is the service without telemetry, with the name of a floor a smaller
application in its place. The path calls
`os.getloadavg()`, which nothing else does, and callgrind is told to stop there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from flask import Flask
from gunicorn.app.wsgiapp import run

import app
from benchmarks import floors, silent

MARK = "/mark"


def create_app(kind: str) -> Flask:
    """Build the application, as it ships or of another kind, with the mark in front of its layers.

    Args:
        kind: "service", "silent", or the name of a floor.
    """
    if kind in floors.FLOORS:
        return mark(floors.create_app(kind))
    return mark(silent.create_app() if kind == "silent" else app.create_app())


def mark(application: Flask) -> Flask:
    """Put the mark in front of an application."""
    answer = application.wsgi_app

    def marked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == MARK:
            os.getloadavg()
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        return answer(environ, start_response)

    application.wsgi_app = marked  # type: ignore[method-assign]
    return application


if __name__ == "__main__":
    config = str(app.ROOT / "gunicorn.conf.py")
    kind = sys.argv[1] if len(sys.argv) > 1 else "service"
    # Under valgrind the start takes longer than gunicorn waits for a worker's heartbeat.
    sys.argv = [
        "gunicorn",
        "--config",
        config,
        "--timeout",
        "0",
        f"benchmarks.marked:create_app({kind!r})",
    ]
    run()
