"""Where the time goes, function by function: py-spy looks who has the interpreter, and how.

Threads that wait, or compute outside the interpreter, are not seen: the interpreter is what a
busy process is short of.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cell, imports, mails
from benchmarks.database import ROOT, Database
from benchmarks.progress import Progress
from benchmarks.servers import Server, running
from benchmarks.subjects import ENVIRONMENTS, OURS
from tests.support.servers import PostgreSQLServer

PY_SPY = Path(sys.executable).parent / "py-spy"
FILE = ENVIRONMENTS / "profile.txt"
LOOKS_PER_SECOND = 500
SECONDS = 10
SPARE_SECONDS = 2.0
# Requests a second: no more than leaves py-spy time to look.
RATES = {"W1": 250, "W2": 400}
# More than can be done meanwhile.
MAILS = 20_000
IMPORTED = 700_000

SERVICE = "this service"
# Modules at the root, such as gunicorn.conf, and the packages.
OWN = {file.stem for file in ROOT.glob("*.py")} | {"chassis", "userservice"}

_FRAME = re.compile(r"(.+) \((.+?)(?::\d+)?\)")
_INSTALLED = re.compile(r"/site-packages/((?:opentelemetry/\w+/)?\w+)")
_STANDARD = re.compile(r"/python3\.\d+/(\w+)")
_FROZEN = re.compile(r"<frozen ([\w.]+)>")

Frame = tuple[str, str]  # a function, and the package that it belongs to
Stacks = Counter[tuple[Frame, ...]]  # outermost first, and how often


def measure(
    postgresql: PostgreSQLServer, collector: str, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield rows for what a web process spends on requests, and a worker on what it does.

    Raises:
        FileNotFoundError: py-spy is not installed.
    """
    for work, measure_one in (
        (cell.TITLES["W1"], partial(_requests, "W1")),
        (cell.TITLES["W2"], partial(_requests, "W2")),
        ("e-mails", _mails),
        ("import", _import),
    ):
        progress.step(f"profile of {work}", SECONDS + 4)
        name = f"profile_{work[:2]}".lower()
        yield from rows(work, measure_one(Database(postgresql, name), collector))


def _requests(workload: str, database: Database, collector: str) -> Stacks:
    database.grow(1, cell.SEEDED_USERS)
    with running(OURS, database=database, collector=collector, WEB_CONCURRENCY="1") as web:
        web.await_answer()
        cell.load(web, workload, seconds=1.0)
        with looked_at(web) as stacks:
            cell.load(web, workload, seconds=SECONDS + SPARE_SECONDS, rate=RATES[workload])
    return stacks


def _mails(database: Database, collector: str) -> Stacks:
    database.grow(1, MAILS)
    provider = {"EMAIL_SERVICE_URL": f"{collector}/mails"}
    with running(imports.WORKER, database=database, collector=collector, **provider) as worker:
        database.execute(mails.FILL)
        imports.await_true(lambda: database.value(mails.SETTLED) > 0)
        with looked_at(worker) as stacks:
            pass
    return stacks


def _import(database: Database, collector: str) -> Stacks:
    upload = imports.lines(imports.people(IMPORTED))
    with imports.service(database, collector) as (web, worker):
        imports.send(web, upload)
        imports.await_true(lambda: database.value("SELECT count(*) FROM users") > 0)
        with looked_at(worker) as stacks:
            pass
    return stacks


@contextmanager
def looked_at(server: Server) -> Iterator[Stacks]:
    """Look at processes for some seconds; what was seen is there at the end of the block."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    pid = str(server.process.pid)
    command = [str(PY_SPY), "record", "--gil", "--pid", pid, "--subprocesses"]
    how = ["--rate", str(LOOKS_PER_SECOND), "--duration", str(SECONDS)]
    what = ["--format", "raw", "--full-filenames", "--function", "--output", str(FILE)]
    stacks: Stacks = Counter()
    with subprocess.Popen(
        [*command, *how, *what], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as looking:
        yield stacks
        said, _ = looking.communicate()
    if looking.returncode:
        raise RuntimeError(f"py-spy failed; does it need to be root? {said[-1000:]}")
    stacks.update(read(FILE.read_text(encoding="utf-8").splitlines()))


def read(lines: Iterable[str]) -> Stacks:
    """Read what py-spy writes: frames with semicolons between, and how often."""
    stacks: Stacks = Counter()
    for line in lines:
        text, _, number = line.rpartition(" ")
        found = [_FRAME.fullmatch(each) for each in text.split(";")]  # the first is the process
        if frames := tuple((each[1], package(each[2])) for each in found if each):
            stacks[frames] += int(number)
    return stacks


def package(file: str) -> str:
    """Name what a file belongs to: an installed package, a standard module, a file of ours."""
    if installed := _INSTALLED.search(file):
        return installed[1].replace("/", ".")
    if file.startswith(f"{ROOT}/"):
        return file.removeprefix(f"{ROOT}/").removesuffix(".py").replace("/", ".")
    standard = _STANDARD.search(file) or _FROZEN.search(file)
    return f"python.{standard[1]}" if standard else file


def rows(work: str, stacks: Stacks) -> Iterator[dict[str, Any]]:
    """Yield the shares of packages by themselves, and of functions with all that they call."""
    own: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    for stack, number in stacks.items():
        own[_owner(stack[-1])] += number
        for name in _entered(stack):
            with_callees[name] += number
    for kind, counts in (("package", own), ("function", with_callees)):
        for name, number in counts.most_common():
            if number * 100 >= stacks.total():
                names = {"suite": "profile", "subject": work, "kind": kind, "name": name}
                yield names | {"share": number / stacks.total()}


def _entered(stack: tuple[Frame, ...]) -> set[str]:
    """Name the service's functions, and those of others by which their package was entered."""
    owners = [_owner(frame) for frame in stack]
    return {
        f"{where}.{function}"
        for before, owner, (function, where) in zip(["", *owners], owners, stack, strict=False)
        if owner == SERVICE or owner != before
    }


def _owner(frame: Frame) -> str:
    """Take all modules of the service, and all of the standard library, for one package."""
    first = frame[1].partition(".")[0]
    return SERVICE if first in OWN or frame[1] in OWN else first
