"""MANAGEMENT_PORT: probes and metrics on a port of their own."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack, closing
from dataclasses import replace

import httpx2
import pytest

from tests.conftest import make_app
from tests.support import processes
from tests.support.factories import ADA
from tests.support.ports import HOST, free_port
from tests.support.serving import Service
from tests.support.waiting import DEADLINE_SECONDS, eventually

MANAGED = ("/health", "/ready", "/metrics")
OF_USERS = ("/docs", "/openapi.json", "/problems/not-found", "/account")


@pytest.fixture
def managed(tmp_path, sqlite_url):
    """Two workers with a management port, and a client of it."""
    port = free_port()
    variables = {"DATABASE_URL": sqlite_url, "WEB_CONCURRENCY": "2", "MANAGEMENT_PORT": str(port)}
    with (
        closing(Service(tmp_path, variables)) as service,
        httpx2.Client(base_url=f"http://{HOST}:{port}", timeout=DEADLINE_SECONDS) as management,
    ):
        eventually(lambda: service.output.count("Booting") == 2 and is_ready(management))
        yield service, management


def is_ready(client):
    try:
        return client.get("/ready").status_code == 200
    except httpx2.TransportError:
        return False


def statuses(client, paths):
    return [client.get(path).status_code for path in paths]


def test_each_port_has_its_own_addresses_and_both_tell_the_version(managed):
    service, management = managed

    assert statuses(management, MANAGED) == [200] * 3
    assert statuses(service.client, MANAGED) == [404] * 3
    assert statuses(service.client, OF_USERS) == [200] * 4
    assert statuses(management, (*OF_USERS, "/", "/users")) == [404] * 6
    assert statuses(management, ["/version"]) == statuses(service.client, ["/version"]) == [200]


def test_an_address_of_the_other_port_is_unknown_whatever_the_method(managed):
    service, management = managed

    for method in ("POST", "OPTIONS", "HEAD"):
        assert service.client.request(method, "/health").status_code == 404
        assert management.request(method, "/users").status_code == 404
    problem = service.client.get("/metrics").json()
    assert (problem["code"], problem["instance"]) == ("not_found", "/metrics")


def test_a_host_that_a_client_claims_opens_no_port(managed):
    service, management = managed

    claimed = {"Host": f"{HOST}:{management.base_url.port}", "X-Forwarded-Port": "1"}

    assert service.client.get("/metrics", headers=claimed).status_code == 404


def test_metrics_are_those_of_all_workers_and_outlive_one(managed):
    service, management = managed
    for number in range(20):
        with httpx2.Client(base_url=service.client.base_url, timeout=DEADLINE_SECONDS) as client:
            client.post("/users", json=ADA | {"email": f"{number}@example.com"})
    first = service.workers[0]

    scrapes = {created(management) for _ in range(10)}
    os.kill(first, signal.SIGKILL)
    eventually(lambda: first not in service.workers and len(service.workers) == 2)

    assert scrapes == {20.0}
    assert created(management) == 20.0


def created(client):
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("users_created_total{"))


def test_probes_are_answered_while_callers_have_taken_all_connections(tmp_path, sqlite_url):
    port = free_port()
    variables = {"DATABASE_URL": sqlite_url, "MANAGEMENT_PORT": str(port)}
    variables |= {"GUNICORN_CMD_ARGS": "--worker-connections=4", "REQUEST_READ_SECONDS": "600"}
    with (
        closing(Service(tmp_path, variables)) as service,
        httpx2.Client(base_url=f"http://{HOST}:{port}", timeout=DEADLINE_SECONDS) as management,
        ExitStack() as stack,
    ):
        eventually(lambda: is_ready(management))
        management.close()
        for _ in range(4):
            client = stack.enter_context(socket.create_connection((HOST, service.port)))
            client.sendall(b"POST /users HTTP/1.1\r\n")  # and says no more

        answers = [httpx2.get(f"http://{HOST}:{port}{path}") for path in MANAGED[:2]]

    assert [each.status_code for each in answers] == [200, 200]


def test_both_ports_are_served_until_the_end(managed):
    service, management = managed

    service.stop()

    assert service.process.returncode == 0
    assert service.errors == ""
    with pytest.raises(httpx2.TransportError):
        management.get("/health")


@pytest.mark.parametrize("port", [0, 8081])
def test_the_description_has_the_addresses_of_the_api_alone(config, services, port):
    app = make_app(replace(config, management_port=port), services)

    paths = app.test_client().get("/openapi.json").json["paths"]

    assert {path for path in MANAGED[:2] if path in paths} == (set() if port else {*MANAGED[:2]})
    assert {"/version", "/users"} <= set(paths)


def test_one_port_cannot_be_both():
    variables = {"PORT": "8080", "MANAGEMENT_PORT": "8080"}

    result = processes.run(*processes.APP, variables=variables)

    assert result.returncode == 2
    assert result.stderr == "MANAGEMENT_PORT must differ from PORT\n"
