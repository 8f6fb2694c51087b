"""Counts that workers share: exact when workers are replaced, and no danger on a full disk."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from chassis.telemetry import shared_counts
from tests.support.factories import ADA
from tests.support.processes import ROOT, run
from tests.support.serving import Service, is_serving
from tests.support.waiting import eventually

# A mount of one's own, which ends with the last process in it.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
MOUNTING = 'mount -t tmpfs -o "size=$SIZE" tmpfs "$PROMETHEUS_MULTIPROC_DIR" && exec "$@"'
REPLACED = 6
WITHOUT_A_FOLDER = """
import tempfile
tempfile._candidate_tempdir_list = lambda: ["/nowhere"]
from bootstrap import _temporary_folder
from chassis.telemetry import shared_counts
print(shared_counts.share(1), _temporary_folder())
"""


def can_mount():
    if not shutil.which("unshare"):
        return False
    command = (*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def on_small_disk(tmp_path, sqlite_url):
    """Start the service with its counts on a disk of this size."""
    if not can_mount():
        pytest.skip("needs a mount namespace")
    started = []

    def start(size):
        directory = tmp_path / "counts"
        directory.mkdir()
        variables = {
            "DATABASE_URL": sqlite_url,
            "PROMETHEUS_MULTIPROC_DIR": str(directory),
            "SIZE": size,
        }
        service = Service(tmp_path, variables, before=(*NAMESPACE, "sh", "-c", MOUNTING, "sh"))
        started.append(service)
        eventually(lambda: is_serving(service))
        return service, Path(f"/proc/{service.process.pid}/root{directory}")

    yield start
    for service in started:
        service.close()


def fill(directory):
    with suppress(OSError), (directory / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def await_successor(service, worker, workers=1):
    """Wait until another worker serves in the place of one that ends."""
    eventually(lambda: worker not in service.workers and len(service.workers) == workers)
    eventually(lambda: is_serving(service))


def register(service, number):
    user = ADA | {"email": f"ada-{number}@example.com"}
    return service.client.post("/users", json=user).status_code


def test_a_disk_that_fills_up_kills_no_worker_and_loses_no_count(on_small_disk):
    service, directory = on_small_disk("32m")
    workers = service.workers

    fill(directory)
    statuses = [register(service, number) for number in range(20)]
    paths = [service.client.get(path).status_code for path in ("/users/me", "/nowhere", "/version")]

    assert statuses == [201] * 20
    assert paths == [401, 404, 200]
    assert service.workers == workers
    assert service.total("users_created_total") == 20


def test_a_worker_that_follows_another_on_a_full_disk_counts_on(on_small_disk):
    service, directory = on_small_disk("32m")
    register(service, 1)
    fill(directory)

    (worker,) = service.workers
    os.kill(worker, signal.SIGKILL)
    await_successor(service, worker)

    assert register(service, 2) == 201
    assert service.total("users_created_total") == 2


def test_a_disk_that_is_full_at_the_start_costs_the_sum_of_the_counts_alone(on_small_disk):
    service, directory = on_small_disk("64k")

    assert register(service, 1) == 201
    assert service.total("users_created_total") == 1
    assert (
        len(service.logged("No room for shared counts: /metrics shows one worker's at a time")) == 1
    )
    assert not any(directory.iterdir())


def test_without_a_folder_for_temporary_files_each_process_counts_alone():
    result = run(sys.executable, "-c", WITHOUT_A_FOLDER)

    assert (result.stdout, result.stderr) == ("False None\n", "")


def test_workers_that_follow_each_other_share_files_and_lose_no_count(serve, tmp_path):
    directory = tmp_path / "counts"
    service = serve(PROMETHEUS_MULTIPROC_DIR=str(directory), WEB_CONCURRENCY="2")
    before = {path.name for path in directory.iterdir()}

    for number in range(REPLACED):
        register(service, number)
        worker = service.workers[number % 2]
        os.kill(worker, signal.SIGKILL if number % 3 else signal.SIGTERM)
        await_successor(service, worker, workers=2)

    assert {path.name for path in directory.iterdir()} == before
    assert service.total("users_created_total") == REPLACED
    assert service.total("active_connections") == 0


def test_a_reload_keeps_the_counts(serve):
    service = serve()
    register(service, 1)
    (worker,) = service.workers

    service.process.send_signal(signal.SIGHUP)
    await_successor(service, worker)
    register(service, 2)

    assert service.total("users_created_total") == 2


def test_a_start_removes_the_files_of_processes_that_were_killed_and_of_no_others(serve, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    killed = serve(TMPDIR=str(folder))
    (abandoned,) = folder.glob("*-metrics")
    living = serve(TMPDIR=str(folder))
    (kept,) = set(folder.glob("*-metrics")) - {abandoned}

    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    (folder / "of-another-metrics").mkdir()
    latest = serve(TMPDIR=str(folder))
    names = {path.name for path in folder.glob("*-metrics")} - {"of-another-metrics"}
    register(living, 1)

    assert kept.name in names
    assert abandoned.name not in names
    assert len(names) == 2
    assert living.total("users_created_total") == 1
    latest.stop()
    living.stop()
    assert [path.name for path in folder.glob("*-metrics")] == ["of-another-metrics"]


def test_gauges_of_a_worker_that_has_exited_end_whatever_their_kind(tmp_path, monkeypatch):
    sources = [each.read_text() for room in ("chassis", "userservice") for each in
               (ROOT / room).rglob("*.py")]  # fmt: skip
    gauges = {
        f"gauge_{mode}" for mode in re.findall(r'multiprocess_mode="(\w+)"', "".join(sources))
    }
    files = {kind: tmp_path / f"{kind}_1.db" for kind in {*gauges, "counter", "histogram"}}
    for file in files.values():
        file.write_bytes(b"\1" * 8)
    monkeypatch.setattr(shared_counts, "_directory", tmp_path)
    monkeypatch.setattr(shared_counts, "_slots", {7: 1})

    shared_counts.release(7)

    ended = {kind for kind, file in files.items() if file.read_bytes()[:4] == bytes(4)}
    assert ended == gauges
    assert len(gauges) > 2
