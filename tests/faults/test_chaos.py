"""The faults of `make chaos`: each does what it says, and leaves nothing behind."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from itertools import count, islice

import httpx2
import psutil
import pytest

from tests.support.chaos import hosts
from tests.support.chaos.disk import Disk
from tests.support.chaos.faults import FAULTS, are_compatible, choices
from tests.support.chaos.machines import HOUR, INTERPOSED
from tests.support.chaos.scene import Chaos, are_gone
from tests.support.deployment import ROOT
from tests.support.loopback import NO_TLS
from tests.support.provider import DRIP, FLOOD
from tests.support.waiting import DEADLINE_SECONDS, eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]
with_hosts = pytest.mark.skipif(not hosts.can_be_made(), reason="hosts are made with cc")

NUMBERS = count()
# A look-up that takes longer than so many seconds is ended by a signal.
LOOK_UP = """
import signal, socket, sys
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
socket.getaddrinfo("database.test", 1)
"""


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    """A service that faults may happen to, one after the other."""
    folder = tmp_path_factory.mktemp("chaos")
    with ExitStack() as running:
        yield Chaos(folder, running, seeded(1))


@pytest.fixture(autouse=True)
def healed(request):
    """Look whether all promises are kept, and the service is well, after each fault."""
    yield
    if "chaos" in request.fixturenames:
        scene = request.getfixturevalue("chaos")
        eventually(lambda: register(scene) == 201 and readiness(scene) == "ready")
        assert scene.problems == []


def seeded(seed):
    return random.Random(seed)  # noqa: S311 - it is to be repeatable


def happening(chaos, name):
    return FAULTS[name].happening(chaos)


def register(chaos):
    """Register a user and return the status."""
    document = {"email": f"chaos-{next(NUMBERS)}@example.com", "name": "Ada"}
    answer = httpx2.post(
        f"{chaos.web.url}/users", json=document, timeout=DEADLINE_SECONDS, verify=NO_TLS
    )
    return answer.status_code


def readiness(chaos):
    return httpx2.get(f"{chaos.web.url}/ready", timeout=DEADLINE_SECONDS, verify=NO_TLS).json()[
        "status"
    ]


def hours_ahead(moment):
    """Return by how many hours a time of a process is ahead of this one, rounded."""
    return round((datetime.fromisoformat(moment).timestamp() - time.time()) / HOUR)


def web_hours_ahead(chaos):
    return hours_ahead(httpx2.get(f"{chaos.web.url}/health").json()["timestamp"])


def look_up(chaos, seconds):
    """Return how a process ended that asked the name server for a name."""
    _, variables = chaos.hosts.add()
    command = [sys.executable, "-c", LOOK_UP, str(seconds)]
    return subprocess.run(command, env=variables, check=False).returncode


@pytest.mark.parametrize(
    "name",
    [
        "PostgreSQL is read-only",
        "the service's role is refused",
        "the service's role loses its rights",
    ],
)
def test_nothing_is_registered_in_a_database_that_takes_nothing(chaos, name):
    with happening(chaos, name):
        eventually(lambda: register(chaos) == 503)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("the provider answers 429 with Retry-After", 429),
        ("the provider drips", DRIP),
        ("the provider floods", FLOOD),
    ],
)
def test_a_provider_that_fails_takes_all_emails_in_the_end(chaos, name, answer):
    before = len(chaos.provider.attempts)
    with happening(chaos, name):
        register(chaos)
        eventually(lambda: len(chaos.provider.attempts) > before)
        tried = chaos.provider.attempts[before]

    assert tried.answer == answer
    eventually(lambda: tried.key in {mail.key for mail in chaos.provider.taken})


def test_another_web_process_comes_when_the_master_was_killed(chaos):
    master, workers = chaos.web, chaos.web.children

    with happening(chaos, "the web process is killed"):
        status = register(chaos)

    assert status == 201
    assert master.wait() == -signal.SIGKILL
    assert len(workers) == 2
    assert are_gone(workers, 0)
    assert len(chaos.silences) == 1


def test_other_web_workers_come_after_sighup(chaos):
    master, workers = chaos.web, set(chaos.web.children)

    with happening(chaos, "the web process gets SIGHUP"):
        pass

    assert chaos.web is master
    assert chaos.web.is_alive
    assert not workers & set(eventually(lambda: chaos.web.children))


def test_an_import_goes_on_when_the_processes_of_the_pool_were_killed(chaos):
    with happening(chaos, "the processes of the pool are killed"):
        pass

    assert chaos.imports.expected
    eventually(lambda: not list(chaos.imports.problems(chaos.database.url)))


def test_the_service_goes_on_when_the_disk_is_full(chaos):
    if not chaos.disk.is_mounted:
        pytest.skip("needs the right to mount")
    file = chaos.disk.folder / "more"

    with happening(chaos, "the disk is full"):
        status = register(chaos)
        with pytest.raises(OSError, match=r".") as refusal:
            file.write_bytes(b"more")

    assert status == 201
    assert refusal.value.errno == errno.ENOSPC
    assert file.write_bytes(b"more") == 4


def test_the_service_goes_on_when_its_files_may_not_grow(chaos, tmp_path):
    def dropped():
        return len(chaos.web.logged("Log lines had no reader"))

    before = dropped()
    with Disk(tmp_path, is_mounted=False).full([chaos.web.process.pid]):
        status = register(chaos)

    assert status == 201
    eventually(lambda: register(chaos) == 201 and dropped() > before)


@with_hosts
@pytest.mark.parametrize(("direction", "hours"), [("ahead", 1), ("behind", -1)])
def test_the_clock_of_the_web_host_is_wrong_for_a_while(chaos, direction, hours):
    with happening(chaos, f"the web host's clock is an hour {direction}"):
        assert web_hours_ahead(chaos) == hours
        assert register(chaos) == 201

    assert web_hours_ahead(chaos) == 0


@with_hosts
@pytest.mark.parametrize(("direction", "hours"), [("ahead", 1), ("behind", -1)])
def test_the_clock_of_one_worker_is_wrong_for_a_while(chaos, direction, hours):
    def logged(wrong):
        lines = [line for each in chaos.workers for line in each.logged("Welcome email sent")]
        return [line for line in lines if hours_ahead(line["timestamp"]) == wrong]

    with happening(chaos, f"a worker's clock is an hour {direction}"):
        eventually(lambda: register(chaos) == 201 and logged(hours))

    assert {chaos.clocks[each].file.read_bytes() for each in chaos.workers} == {bytes(8)}


def knows_the_database(chaos, pid):
    """Tell whether a process is connected to the database, and so has looked it up."""
    connections = psutil.Process(pid).net_connections("tcp")
    return any(each.raddr and each.raddr.port == chaos.proxy.port for each in connections)


@with_hosts
def test_the_name_server_is_silent_for_a_while(chaos):
    # A web worker that has just begun has no last address to go on with.
    eventually(
        lambda: (
            register(chaos) == 201
            and all(knows_the_database(chaos, pid) for pid in chaos.web.children)
        )
    )

    with happening(chaos, "the name server does not answer"):
        assert look_up(chaos, 0.2) == -signal.SIGALRM
        assert register(chaos) == 201

    assert look_up(chaos, DEADLINE_SECONDS) == 0


def test_all_faults_come_before_one_comes_again():
    drawn = choices(seeded(1))
    names: list[str] = []
    while len(names) < len(FAULTS):
        names += next(drawn)

    assert sorted(names) == sorted(FAULTS)


def test_the_same_seed_chooses_the_same_faults():
    first, second = (list(islice(choices(seeded(7)), 50)) for _ in range(2))

    assert first == second
    assert any(len(names) == 2 for names in first)


def test_faults_of_one_part_do_not_happen_together():
    assert not are_compatible("PostgreSQL crashes", "the web process is replaced")
    assert are_compatible("PostgreSQL crashes", "Redis crashes")
    assert all(are_compatible(*names) for names in islice(choices(seeded(2)), 200) if names[1:])


def test_the_documentation_lists_all_faults():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ")[1] for line in text.partition("## Chaos")[2].split("\n") if "| " in line
    ]

    listed = {name for row in rows[1:] for name in row.split("; ")}

    assert listed == set(FAULTS) | set(INTERPOSED)
