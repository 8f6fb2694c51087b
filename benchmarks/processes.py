"""CPU time and memory of processes, children included, read from /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
GONE = (FileNotFoundError, ProcessLookupError)

# Fields of /proc/PID/stat behind the name, which may itself hold spaces and brackets.
_PARENT = 1
_TIMES = slice(11, 15)  # own user and system time, then that of children who were waited for


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(*GONE):
                children.setdefault(int(_stat(entry.name)[_PARENT]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> dict[int, float]:
    """Return process -> CPU time so far, for a process and its descendants."""
    times = {}
    for pid in tree(root):
        with suppress(*GONE):
            times[pid] = sum(map(int, _stat(pid)[_TIMES])) / TICKS_PER_SECOND
    return times


def pss_bytes(root: int) -> int:
    """Return the memory of a process and its descendants; shared pages count once in all."""
    return sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in tree(root)) * 1024


def peak_bytes(root: int) -> int:
    """Return the most that a process and its descendants have had in memory, one by one, so far."""
    return sum(_kib(f"/proc/{pid}/status", "VmHWM:") for pid in tree(root)) * 1024


def _kib(file: str, name: str) -> int:
    with suppress(*GONE):
        for line in Path(file).read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def _stat(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
