"""Options of gunicorn that would have no effect are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.config import Config

from chassis.http.unsupported import unsupported_options
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("certfile", "/tls/crt"), ("keyfile", "/tls/key"), ("ca_certs", "/tls/ca")),
        *(("ciphers", "HIGH"), ("cert_reqs", 2), ("ssl_context", lambda _config, _make: None)),
        *(("proxy_protocol", "auto"), ("protocol", "uwsgi"), ("http_protocols", "h2,h1")),
        *(("limit_request_fields", 10), ("limit_request_line", 100), ("root_path", "/api")),
        *(("permit_obsolete_folding", True), ("header_map", "dangerous")),
    ],
)
def test_an_option_without_effect_is_named(name, value):
    given = Config()
    given.set(name, value)

    assert unsupported_options(given) == [name]


def test_options_that_work_are_not_named():
    given = Config()
    for name, value in {"workers": 3, "threads": 9, "timeout": 5, "backlog": 64}.items():
        given.set(name, value)

    assert unsupported_options(given) == []


def test_a_service_that_is_told_to_speak_tls_does_not_start_without():
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PORT": str(free_port()),
        "GUNICORN_CMD_ARGS": "--certfile=/absent.crt --keyfile=/absent.key",
    }

    ended = subprocess.run(
        [sys.executable, ROOT / "app.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr == "gunicorn's certfile, keyfile: not supported by this worker\n"
