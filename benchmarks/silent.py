"""The service without any telemetry of its requests, to see what telemetry costs.

No option of the service goes this far: what is turned off there still counts requests and
makes ids. Started as the service is, by gunicorn with the service's settings.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from flask import Flask
from gunicorn.app.wsgiapp import run

import app


def create_app() -> Flask:
    """Build the application without the hooks that measure, log and trace requests."""
    with (
        patch("app.register_request_telemetry"),
        patch("observability.Telemetry.instrument"),
    ):
        return app.create_app()


if __name__ == "__main__":
    config = str(app.ROOT / "gunicorn.conf.py")
    sys.argv = ["gunicorn", "--config", config, "benchmarks.silent:create_app()"]
    run()
