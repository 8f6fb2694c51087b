"""The log level is switched by a signal, in all processes and without a restart."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.waiting import eventually

SET = "Log level set"


def levels(lines):
    return [line["log_level"] for line in lines if line["message"] == SET]


def read(service):
    """Return the lines that are whole by now."""
    return [line for line in service.lines if line["message"] == SET]


def test_a_signal_to_the_master_switches_all_web_processes_and_back(serve):
    service = serve(WEB_CONCURRENCY="2", LOG_LEVEL="ERROR")
    service.client.get("/nope")
    before = service.logged("Request answered")

    service.process.send_signal(signal.SIGUSR1)
    eventually(lambda: levels(read(service)) == ["DEBUG"] * 3)  # the master's, and two workers'
    service.client.get("/nope")
    during = eventually(lambda: service.logged("Request answered"))
    service.process.send_signal(signal.SIGUSR1)
    eventually(lambda: levels(read(service)) == ["DEBUG"] * 3 + ["ERROR"] * 3)
    service.client.get("/nope")
    service.stop()

    assert (before, len(during)) == ([], 1)
    assert service.logged("Request answered") == during


def test_a_worker_that_comes_later_has_the_level_of_the_others(serve):
    service = serve(LOG_LEVEL="WARNING")
    (first,) = service.workers
    service.process.send_signal(signal.SIGUSR1)
    eventually(lambda: levels(read(service)) == ["DEBUG"] * 2)

    os.kill(first, signal.SIGKILL)
    eventually(lambda: service.workers not in ([first], []))
    eventually(lambda: service.client.get("/nope").status_code == 404)

    assert len(service.logged("Request answered")) == 1


def test_workers_that_a_reload_brings_keep_the_level(serve):
    service = serve(LOG_LEVEL="WARNING")
    before = service.workers
    service.process.send_signal(signal.SIGUSR1)
    eventually(lambda: levels(read(service)) == ["DEBUG"] * 2)

    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(service.workers) == 1 and service.workers != before)
    eventually(lambda: service.client.get("/nope").status_code == 404)

    assert service.logged("Request answered")


@pytest.mark.parametrize(("configured", "other"), [("INFO", "DEBUG"), ("DEBUG", "INFO")])
def test_a_signal_switches_the_worker(deployment, configured, other):
    worker = deployment.worker(LOG_LEVEL=configured)
    worker.await_ready()

    worker.send(signal.SIGUSR1)
    eventually(lambda: levels(worker.logged(SET)) == [other])
    worker.send(signal.SIGUSR1)
    eventually(lambda: levels(worker.logged(SET)) == [other, configured])

    assert worker.stop()[0] == 0
