"""The service's own application, for granian instead of gunicorn."""

from __future__ import annotations

import os
import sys

from flask import Flask

import app
from chassis.telemetry import instruments
from config import AppConfig
from observability import setup_logging


def create_app() -> Flask:
    """Do in each process what gunicorn.conf.py does: logs, shared counts, the application."""
    config = AppConfig.from_env()
    setup_logging(config, sys.stdout)
    instruments.count_together(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    return app.create_app(config)
