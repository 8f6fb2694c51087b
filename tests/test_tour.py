"""The sessions in the documents, held again with the service as `make run` starts it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx2
import psutil
import pytest

from tests.support.ports import HOST, family, free_port, is_served_by
from tests.support.terminal import ON_TERMINAL, Terminal
from tests.support.waiting import DEADLINE_SECONDS, eventually

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TOUR = ROOT / "docs" / "tour.md"
MARK = "-- end of an answer --"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command, over as many lines as end in a backslash, and all up to the next one.
STEP = re.compile(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", re.MULTILINE)
# Texts that differ from one run to the next.
CHANGING = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<time>"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<date>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<request or trace>"),
    (re.compile(r"(?<=;t=)\d+"), "<seconds>"),
)


class Server(NamedTuple):
    """A service, and the terminal on which it prints."""

    address: str
    terminal: Terminal
    pid: int

    def link(self):
        """Return the newest link that was printed."""
        found = re.findall(r"^http://localhost:\S+#\S+$", self.terminal.text, re.MULTILINE)
        return found[-1] if found else None


@pytest.fixture
def server(tmp_path):
    """A service that runs the way `make run` starts it."""
    port = free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{tmp_path}/app.db",
        "REDIS_URL": "",
        "API_KEY": "development-key",
        "EMAIL_ON_TERMINAL": "true",
        "BIND_ADDRESS": HOST,
    }
    command = [sys.executable, "-c", ON_TERMINAL, "app.py"]
    with closing(Terminal()) as terminal:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=terminal.device)
        try:
            eventually(lambda: is_served(process, port, terminal))
            yield Server(f"http://localhost:{port}", terminal, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.skipif(not shutil.which("curl"), reason="the session is held with curl")
@pytest.mark.parametrize("document", [README, TOUR], ids=lambda file: file.stem)
def test_the_service_answers_as_a_session_shows(server, document):
    session = read_session(document)

    answers = run([command for command, _ in session], server)

    assert answers == [(command, mask(shown)) for command, shown in session]


def test_a_developer_reads_on_the_terminal_where_to_go_on(server):
    port = server.address.rpartition(":")[2]
    welcome = f"http://localhost:{port}/docs  (key development-key; Ctrl-C ends)"

    shown = eventually(lambda: re.findall(r"  (http\S+/docs .*)", server.terminal.text))
    httpx2.get(f"http://{HOST}:{port}/users")
    lines = eventually(lambda: re.findall(r".* Request answered .*", server.terminal.text))

    assert shown == [welcome]
    assert " - access - INFO - Request answered method=GET route=/users status=401 " in lines[0]


def test_nobody_else_on_the_network_reaches_what_make_run_starts(server):
    port = int(server.address.rpartition(":")[2])
    pids = family(server.pid)

    hosts = {
        each.laddr.ip
        for pid in pids
        for each in psutil.Process(pid).net_connections("tcp")
        if each.laddr.port == port and each.status == psutil.CONN_LISTEN
    }

    assert hosts == {HOST}


def test_the_tour_shows_each_thing_a_client_does():
    commands = "\n".join(command for command, _ in read_session(TOUR))

    missing = [
        part
        for part in (
            "-d '{",
            "Idempotency-Key",
            "/auth/token",
            "Bearer",
            "/password ",
            "/sessions",
            "/auth/password/forgot",
            "/auth/password/reset",
            "If-None-Match",
            "page_size",
            "PATCH",
            "If-Match",
            "DELETE",
            "/users/import",
            "/users/export",
            "/ready",
            "/metrics",
        )
        if part not in commands
    ]

    assert not missing


def is_served(process, port, terminal):
    """Tell whether a service takes connections; fail with its output when it has ended."""
    assert process.poll() is None, terminal.text
    return is_served_by(process.pid, port)


def read_session(file):
    """Return the commands of a document's `console` blocks, each with what it shows below."""
    blocks = BLOCK.findall(file.read_text(encoding="utf-8"))
    return [
        (command.strip(), shown.strip()) for body in blocks for command, shown in STEP.findall(body)
    ]


def run(commands, server):
    """Run commands in one shell, which is given the link of an e-mail; return their answers."""
    script = "".join(f"{command}\nprintf '\\n{MARK}\\n'\n" for command in commands)
    with subprocess.Popen(
        ["sh", "-e", "-c", script.replace("http://localhost:8080", server.address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as shell:
        try:
            # `read` waits for the link, as it does for a person who pastes it.
            link = eventually(lambda: server.link() or shell.poll() is not None)
            output, errors = shell.communicate(f"{link}\n", timeout=DEADLINE_SECONDS)
        except BaseException:
            shell.kill()
            raise
    assert shell.returncode == 0, errors
    answers = output.split(f"\n{MARK}\n")[:-1]
    return [
        (command, mask(answer).strip()) for command, answer in zip(commands, answers, strict=True)
    ]


def mask(text):
    """Replace what no two runs have in common."""
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return text
