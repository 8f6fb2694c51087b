"""The service without any telemetry of its requests, to see what telemetry costs.

No option of the service goes this far: what is turned off there still counts requests and
makes ids. Started as the service is, by gunicorn with the service's settings.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import patch

from flask import Flask
from gunicorn.app.wsgiapp import run

import app
from app import layers
from chassis.http.layers import Layer

TELEMETRY = {"trace", "metrics"}


def create_app(*arguments: Any, **options: Any) -> Flask:
    """Build the application without the layers that measure, log and trace requests.

    Functions have no spans, either, not even empty ones, in all that this process does from now on.
    """
    patch("chassis.telemetry.tracing.is_unrecorded", _always).start()
    with patch("app.layers", silent_layers), patch("observability.Telemetry.instrument"):
        return app.create_app(*arguments, **options)


def _always() -> bool:
    return True


def silent_layers(*arguments: Any) -> dict[str, Layer]:
    """Return the layers of the service, but those that are telemetry."""
    return {name: each for name, each in layers(*arguments).items() if name not in TELEMETRY}


if __name__ == "__main__":
    config = str(app.ROOT / "gunicorn.conf.py")
    sys.argv = ["gunicorn", "--config", config, "benchmarks.silent:create_app()"]
    run()
