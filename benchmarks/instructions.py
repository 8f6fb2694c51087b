"""How many instructions a request takes: a figure that no neighbour on the machine disturbs.

Valgrind's callgrind counts the process that runs `requests.py`. That calls `os.getloadavg()`,
which nothing else does, before and after the requests to count, and callgrind sums up there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.database import ROOT, Database
from benchmarks.progress import Progress
from benchmarks.subjects import API_KEY, ENVIRONMENTS, OURS

FOLDER = ENVIRONMENTS / "callgrind"
COUNTED = 100
SECONDS = 100

_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)


def measure(database: Database, progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield a row for POST /users and one for GET /users/{id}.

    Raises:
        FileNotFoundError: valgrind is not installed.
    """
    if shutil.which("valgrind") is None:
        raise FileNotFoundError("make bench-instructions needs valgrind")
    progress.step("counting under callgrind", SECONDS)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _run(database)
    # The parts hold, in turn: start, counted POSTs, warming up, counted GETs; then the end.
    for workload, part in (("W1", 2), ("W2", 4)):
        yield {
            "suite": "instructions",
            "workload": workload,
            "instructions": round(_total(FOLDER / f"out.{part}") / COUNTED),
        }


def _run(database: Database) -> None:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONHASHSEED": "0",
        "DATABASE_URL": database.url,
        "API_KEY": API_KEY,
        **OURS.environment,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_TRACES_SAMPLER_ARG": "0",  # chance would sample more in one run than in another
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
    }
    callgrind = ["--tool=callgrind", "--dump-before=getloadavg"]
    done = subprocess.run(
        [
            *("valgrind", *callgrind, f"--callgrind-out-file={FOLDER / 'out'}"),
            *(sys.executable, "-m", "benchmarks.requests", str(COUNTED)),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"callgrind failed: {done.stderr[-2000:]}")


def _total(file: Path) -> int:
    found = _TOTAL.search(file.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise RuntimeError(f"{file} holds no total")
    return int(found[1])
