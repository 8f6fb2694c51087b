"""The image's HEALTHCHECK asks the process that runs in the container."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config import AppConfig
from healthcheck import find_host, find_port, is_healthy
from tests.support.ports import free_port
from tests.support.processes import ROOT
from workers import serve_worker_status

WEB = ["python", "app.py", ""]
WORKER = ["python", "app.py", "worker", ""]


@pytest.mark.parametrize(
    ("command", "variables", "port"),
    [
        (WEB, {}, AppConfig(redis_url="").port),
        (WEB, {"PORT": ""}, AppConfig(redis_url="").port),
        (WEB, {"PORT": "9000", "WORKER_METRICS_PORT": "9090"}, 9000),
        (WEB, {"PORT": "9000", "MANAGEMENT_PORT": "9001"}, 9001),
        (WEB, {"PORT": "9000", "MANAGEMENT_PORT": "0"}, 9000),
        (["gunicorn", ""], {"PORT": "9000"}, 9000),
        (WORKER, {"PORT": "9000"}, 0),
        (WORKER, {"PORT": "9000", "MANAGEMENT_PORT": "9001", "WORKER_METRICS_PORT": "9090"}, 9090),
        (["/sbin/docker-init", "--", *WORKER], {"WORKER_METRICS_PORT": "9090"}, 9090),
        (["python", "app.py", "admin", "cleanup", ""], {"PORT": "9000"}, 0),
    ],
)
def test_the_port_is_that_of_the_process(command, variables, port):
    assert find_port(command, variables) == port


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::"])  # noqa: S104 - as said
def test_a_process_that_listens_everywhere_is_asked_by_name(address):
    assert find_host({"BIND_ADDRESS": address}) == find_host({}) == "localhost"


def test_a_process_is_asked_at_the_address_that_it_listens_on():
    port, address = free_port(), "127.0.0.2"
    serve_worker_status(port, lambda: True, address)

    assert is_healthy(port, find_host({"BIND_ADDRESS": address}))
    assert not is_healthy(port)


def test_a_process_without_a_port_is_healthy_while_it_runs():
    assert is_healthy(0)


def test_nobody_who_listens_is_not_healthy():
    assert not is_healthy(free_port())


def test_a_process_that_answers_is_healthy(serve):
    assert is_healthy(serve().port)


def test_it_needs_nothing_but_python_and_a_few_modules():
    program = "import sys, healthcheck; print('site' in sys.modules)"
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"

    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )

    assert (result.stdout, result.stderr) == ("False\n", "")
