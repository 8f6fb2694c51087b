"""Workers stay on CPUs of their own, where they are told to, or where the platform gave CPUs."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from chassis.process.pinning import choose_cpu, pin
from chassis.settings.variables import ConfigError
from config import AppConfig
from tests.support.serving import serving
from tests.support.waiting import eventually

MASK = os.sched_getaffinity(0) if sys.platform == "linux" else set()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux pins processes")


@pytest.fixture
def machine(monkeypatch):
    """Set the CPUs of the mask, and the number that the machine has."""

    def have(mask, total):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(mask))
        monkeypatch.setattr(os, "cpu_count", lambda: total)

    return have


def choices(mode, workers, number=None):
    """Return the CPUs of workers that start one after the other."""
    taken: list[int | None] = []
    for _ in range(number or workers):
        taken.append(choose_cpu(mode, workers, taken))
    return taken


def test_workers_are_spread_evenly_over_the_mask(machine):
    machine({1, 4, 6}, 8)

    assert sorted(filter(None, choices("on", 3))) == [1, 4, 6]
    assert sorted(filter(None, choices("on", 3, 6))) == [1, 1, 4, 4, 6, 6]  # during a reload
    assert len(set(choices("on", 2))) == 2


def test_a_worker_that_is_replaced_leaves_its_cpu_to_the_next(machine):
    machine({2, 3}, 8)

    assert choose_cpu("on", 2, [3]) == 2
    assert choose_cpu("on", 2, [2]) == 3
    assert choose_cpu("on", 2, [2, None]) == 3


def test_more_workers_than_cpus_stay_where_they_like(machine):
    machine({0, 1}, 8)

    assert choices("on", 3) == [None] * 3
    assert choices("auto", 3) == [None] * 3


def test_auto_pins_only_where_the_platform_gave_each_worker_a_cpu(machine):
    machine({0, 1}, 8)
    given = choices("auto", 2)
    fewer = choices("auto", 1)
    machine({0, 1}, 2)
    whole = choices("auto", 2)

    assert sorted(filter(lambda cpu: cpu is not None, given)) == [0, 1]
    assert fewer == [None]
    assert whole == [None] * 2


def test_off_pins_nothing(machine):
    machine({0, 1}, 8)

    assert choices("off", 2) == [None] * 2


def test_a_cpu_that_was_taken_away_is_no_failure(caplog):
    pin(100_000)

    assert [record.message for record in caplog.records] == ["Worker not pinned"]


def test_a_system_that_cannot_pin_says_so_only_where_it_has_to(monkeypatch):
    monkeypatch.setattr("config.CAN_PIN", False)

    AppConfig(web_pin="auto")
    with pytest.raises(ConfigError, match="WEB_PIN=on needs Linux"):
        AppConfig(web_pin="on")


def masks(service):
    """Return the CPUs of each worker, which all of its threads must have."""
    found = []
    for worker in service.workers:
        threads = [os.sched_getaffinity(each.id) for each in psutil.Process(worker).threads()]
        assert len(threads) > 16
        assert threads == [threads[0]] * len(threads)
        found.append(threads[0])
    return found


@pytest.mark.skipif(len(MASK) < 2, reason="needs two CPUs")
def test_each_worker_and_its_threads_stay_on_a_cpu_of_their_own(tmp_path):
    with serving(tmp_path, WEB_PIN="on", WEB_CONCURRENCY="2") as service:
        eventually(lambda: is_idle(service))
        before, killed = masks(service), service.workers[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: is_idle(service) and killed not in service.workers)
        after = masks(service)
        master = os.sched_getaffinity(service.process.pid)

    for each in (before, after):
        assert [len(cpus) for cpus in each] == [1, 1]
        assert len(set.union(*each)) == 2
        assert set.union(*each) <= MASK
    assert master == MASK


@pytest.mark.parametrize("pin", ["off", "on"])
def test_workers_that_are_not_pinned_have_the_mask_of_the_master(tmp_path, pin):
    number = len(MASK) + 1  # more than CPUs
    with serving(tmp_path, WEB_PIN=pin, WEB_CONCURRENCY=str(number)) as service:
        eventually(lambda: is_idle(service, number))
        found = masks(service)

    assert found == [MASK] * number


def is_idle(service, number=2):
    """Tell whether so many workers have all their threads."""
    workers = [psutil.Process(each) for each in service.workers]
    return len(workers) == number and all(each.num_threads() > 16 for each in workers)
