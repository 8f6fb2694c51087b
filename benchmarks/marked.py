"""The service, started as it is by gunicorn, and a path at which callgrind notes its count.

With the argument `silent` it is the service without telemetry. The path calls
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
from benchmarks import silent

MARK = "/mark"


def create_app() -> Flask:
    """Build the application as it ships, with the mark in front of all of its layers."""
    return mark(app.create_app())


def create_silent_app() -> Flask:
    """Build the application without telemetry, with the mark."""
    return mark(silent.create_app())


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
    make = "create_silent_app" if "silent" in sys.argv else "create_app"
    # Under valgrind the start takes longer than gunicorn waits for a worker's heartbeat.
    sys.argv = ["gunicorn", "--config", config, "--timeout", "0", f"benchmarks.marked:{make}()"]
    run()
