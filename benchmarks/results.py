"""Runs as files: the raw rows, and on what they were measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import picture, tables
from benchmarks.database import ROOT
from benchmarks.rounds import Row

LATEST = ROOT / "build" / "bench" / "results"
RECORDED = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.svg"
KINDS = ("full", "growth", "import", "instructions", "telemetry", "profile")
TABLES = {
    "goals": tables.goals,
    "throughput": tables.throughput,
    "comparison": tables.comparison,
    "latency": tables.latency,
    "lifetime": tables.lifetime,
    "growth": tables.growth,
    "worker-memory": tables.worker_memory,
    "imports": tables.imports,
    "instructions": tables.instructions,
    "telemetry": tables.telemetry,
    "packages": tables.packages,
    "functions": tables.functions,
}


def machine(postgresql: str = "") -> dict[str, Any]:
    """Describe where and on what a run takes place."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip(),
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgresql": postgresql,
        "load_before": round(os.getloadavg()[0], 2),
    }


def store(kind: str, about: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Keep a run as the latest of its kind."""
    LATEST.mkdir(parents=True, exist_ok=True)
    file = LATEST / f"{kind}.json"
    file.write_text(_dump(about, rows), encoding="utf-8")
    return file


def load(folder: Path, kinds: Iterable[str] = KINDS) -> tuple[dict[str, Any], list[Row]]:
    """Return what is known of the first of these runs that is there, and the rows of all."""
    about: dict[str, Any] = {}
    rows: list[Row] = []
    for kind in kinds:
        file = folder / f"{kind}.json"
        if file.exists():
            run = json.loads(file.read_text(encoding="utf-8"))
            about = about or run["machine"]
            rows += run["rows"]
    return about, rows


def record() -> None:
    """Make the latest runs the recorded ones, and write the documents that show them."""
    RECORDED.mkdir(exist_ok=True)
    for kind in KINDS:
        latest = LATEST / f"{kind}.json"
        if latest.exists():
            (RECORDED / latest.name).write_bytes(latest.read_bytes())
    about, rows = load(RECORDED)
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), about, rows), encoding="utf-8")
    PICTURE.write_text(picture.draw(rows), encoding="utf-8")


def filled(document: str, about: dict[str, Any], rows: list[Row]) -> str:
    """Return the document with every table between its marks written anew."""
    shown = {name: make(rows) for name, make in TABLES.items()} | {"machine": sentence(about)}
    for name, content in shown.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = document.partition(begin)
        after = rest.partition(end)[2]
        document = f"{before}{begin}\n{content}\n{end}{after}"
    return document


def sentence(about: dict[str, Any]) -> str:
    """Say in words where a run took place."""
    if not about:
        return "No run has been recorded yet."
    return (
        f"Recorded on {about['date']} at {about['commit']}: {about['processor']}, "
        f"{about['cores']} cores shared by servers, PostgreSQL {about['postgresql']} and load "
        f"generator; Linux {about['kernel']}, Python {about['python']}."
    )


def _dump(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Write one row a line, which reads well and compares well."""
    lines = ",\n".join(json.dumps(_rounded(row)) for row in rows)
    return f'{{"machine": {json.dumps(about)}, "rows": [\n{lines}\n]}}\n'


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()
    }
