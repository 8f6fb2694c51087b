"""Metrics of a pod's processes together: a parent and its children, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import Metric

PROC = Path("/proc")


class Usage(NamedTuple):
    """The use that one process makes of the machine."""

    cpu_seconds: float
    dead_children_cpu_seconds: float
    started_at: float
    virtual_bytes: float
    resident_bytes: float
    open_fds: int


def collect_processes(parent: int) -> Iterator[Metric]:
    """Yield the metrics of a process and of its children; none where there is no /proc.

    The time of children that have ended is part of the total, which therefore never falls.
    """
    first = _read(parent)
    if first is None:
        return
    all_of_them = [first, *filter(None, map(_read, _children(parent)))]
    cpu = sum(each.cpu_seconds for each in all_of_them) + first.dead_children_cpu_seconds
    yield _counter("process_cpu_seconds_total", "CPU time of this pod's web processes.", cpu)
    yield _gauge(
        "process_virtual_memory_bytes",
        "Virtual memory of this pod's web processes.",
        sum(each.virtual_bytes for each in all_of_them),
    )
    yield _gauge(
        "process_resident_memory_bytes",
        "Resident memory of this pod's web processes; shared pages count for each.",
        sum(each.resident_bytes for each in all_of_them),
    )
    yield _gauge(
        "process_open_fds",
        "Open file descriptors of the web process that has the most.",
        max(each.open_fds for each in all_of_them),
    )
    yield _gauge(
        "process_start_time_seconds",
        "Start of the first web process, in seconds of the epoch.",
        first.started_at,
    )


def _children(parent: int) -> list[int]:
    try:
        text = (PROC / f"{parent}/task/{parent}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def _read(pid: int) -> Usage | None:
    """Read a process's use; None if it has ended."""
    try:
        stat = (PROC / f"{pid}/stat").read_text()
        open_fds = sum(1 for _ in (PROC / f"{pid}/fd").iterdir())
        booted_at = _booted_at()
    except (OSError, StopIteration):
        return None
    # The name in brackets may hold anything; these fields are behind it, the third one first.
    fields = stat.rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    own, kernel, dead_own, dead_kernel = (int(field) / tick for field in fields[11:15])
    return Usage(
        cpu_seconds=own + kernel,
        dead_children_cpu_seconds=dead_own + dead_kernel,
        started_at=booted_at + int(fields[19]) / tick,
        virtual_bytes=float(fields[20]),
        resident_bytes=int(fields[21]) * float(os.sysconf("SC_PAGE_SIZE")),
        open_fds=open_fds,
    )


def _booted_at() -> float:
    lines = (PROC / "stat").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime"))


def _gauge(name: str, documentation: str, value: float) -> Metric:
    family = Metric(name, documentation, "gauge")
    family.add_sample(name, {}, value)
    return family


def _counter(name: str, documentation: str, value: float) -> Metric:
    family = Metric(name.removesuffix("_total"), documentation, "counter")
    family.add_sample(name, {}, value)
    return family
