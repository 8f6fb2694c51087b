"""What the documentation promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest

from admin import cli
from config import AppConfig
from docs import generate
from tests.servers import free_port
from userservice.errors import AppError

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ADRS = ROOT / "docs" / "adr"
START_SECONDS = 30
STOP_SECONDS = 30
MARK = "-- end of an answer --"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A command, over as many lines as end in a backslash, and all up to the next one.
STEP = re.compile(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", re.MULTILINE)
# What differs from one run to the next.
CHANGING = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<time>"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<date>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<request or trace>"),
    (re.compile(r"(?<=;t=)\d+"), "<seconds>"),
)


@pytest.fixture
def server(tmp_path):
    """Address of a service that runs the way `make run` starts it."""
    port = free_port()
    log = tmp_path / "log"
    variables = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{tmp_path}/app.db",
        "REDIS_URL": "",
        "API_KEY": "development-key",
    }
    command = [sys.executable, "app.py"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=output) as process,
    ):
        try:
            await_health(f"http://localhost:{port}", process, log)
            yield f"http://localhost:{port}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.skipif(not shutil.which("curl"), reason="the session is held with curl")
def test_the_service_answers_as_the_session_in_the_readme_shows(server):
    session = read_session(README)

    answers = run([command for command, _ in session], server)

    assert answers == [(command, mask(shown)) for command, shown in session]


def test_the_session_in_the_readme_shows_each_thing_a_client_does():
    commands = "\n".join(command for command, _ in read_session(README))

    missing = [
        part
        for part in (
            "-d '{",
            "Idempotency-Key",
            "/auth/token",
            "Bearer",
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


def test_generated_documentation_is_current():
    expected = generate.texts()

    outdated = [file.name for file, text in expected.items() if read(file) != text]

    assert not outdated, "run: make docs"


def test_every_variable_is_in_the_table():
    text = read(ROOT / "docs" / "configuration.md")

    missing = [
        each.name.upper()
        for each in fields(AppConfig)
        if f"\n| `{each.name.upper()}` |" not in text
    ]

    assert not missing


def test_every_secret_names_the_variable_for_its_file():
    text = read(ROOT / "docs" / "configuration.md")
    secrets = {each.name.upper() for each in fields(AppConfig) if each.metadata["secret"]}

    named = set(re.findall(r"yes, or `(\w+)_FILE`", text))

    assert named == secrets


def test_errors_that_share_a_code_are_kinds_of_one_error():
    by_code: dict[str, list[type[AppError]]] = {}
    for error in generate.error_classes():
        by_code.setdefault(error.code, []).append(error)

    strangers = {
        code
        for code, alike in by_code.items()
        if len({error.status for error in alike}) > 1
        or not any(all(issubclass(each, general) for each in alike) for general in alike)
    }

    assert not strangers


def test_every_code_has_one_row_with_all_its_meanings():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", generate.errors(), re.MULTILINE)

    meanings = dict(rows)

    assert len(rows) == len(meanings)
    assert all(
        generate.first_paragraph(error) in meanings[error.code]
        for error in generate.error_classes()
    )


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_the_readme_names_the_two_commands_that_a_newcomer_needs(command):
    scripts = [body for language, body in BLOCK.findall(read(README)) if language == "sh"]

    lines = [line for script in scripts for line in script.splitlines()]

    assert any(line.startswith(command) for line in lines)


def test_the_readme_shows_every_admin_command():
    shown = set(re.findall(r"^python app\.py admin ([\w-]+)", read(README), re.MULTILINE))

    assert shown == set(cli.commands)


def test_every_relative_link_leads_to_a_file():
    broken = [
        f"{file.relative_to(ROOT)}: {link}"
        for file in markdown_files()
        for link in LINK.findall(BLOCK.sub("", read(file)))
        if ":" not in link and not leads_somewhere(file, link)
    ]

    assert not broken


def test_every_decision_is_listed_under_its_own_number():
    records = sorted(file.name for file in ADRS.glob("[0-9]*.md"))

    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", read(ADRS / "README.md"))

    assert listed == records
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))


def test_every_decision_has_a_context_and_consequences():
    headings = ["## Context", "## Decision", "## Consequences"]

    incomplete = [
        file.name
        for file in ADRS.glob("[0-9]*.md")
        if re.findall(r"^## .*$", read(file), re.MULTILINE) != headings
    ]

    assert not incomplete


def test_every_dependency_earns_its_place_in_words():
    text = read(ADRS / "0001-dependencies.md")
    lines = read(ROOT / "requirements.in") + read(ROOT / "requirements-dev.in")

    unexplained = [
        name for name in re.findall(r"^[a-z][\w-]*", lines, re.MULTILINE) if f"`{name}`" not in text
    ]

    assert not unexplained


def test_the_tree_in_the_architecture_names_every_module_and_no_other():
    tree = BLOCK.findall(read(ARCHITECTURE))[0][1]
    modules = python_files(ROOT, "*.py").union(
        *(python_files(ROOT / name, "**/*.py") for name in ("chassis", "userservice"))
    )
    others = set().union(
        *(python_files(ROOT / name, "**/*.py") for name in ("docs", "migrations", "tests"))
    )

    named = set(re.findall(r"[\w.]+\.py\b", tree))

    assert modules <= named
    assert named <= modules | others


def await_health(address, process, log):
    """Wait until a service answers; fail with its log when it ends, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):  # noqa: S310 - our own
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"The service did not start:\n{read(log)}")


def read_session(file):
    """Return the commands of a document's `console` blocks, each with what it shows below."""
    blocks = [body for language, body in BLOCK.findall(read(file)) if language == "console"]
    return [
        (command.strip(), shown.strip()) for body in blocks for command, shown in STEP.findall(body)
    ]


def run(commands, address):
    """Run commands in one shell; return each with its answer, masked."""
    script = "".join(f"{command}\nprintf '\\n{MARK}\\n'\n" for command in commands)
    done = subprocess.run(
        ["sh", "-e", "-c", script.replace("http://localhost:8080", address)],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split(f"\n{MARK}\n")[:-1]
    return [
        (command, mask(answer).strip()) for command, answer in zip(commands, answers, strict=True)
    ]


def mask(text):
    """Replace what no two runs have in common."""
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return text


def python_files(folder, pattern):
    """Return the names of modules; a package's own file says nothing."""
    return {file.name for file in folder.glob(pattern)} - {"__init__.py"}


def markdown_files():
    """Return the project's own Markdown files."""
    is_ours = re.compile(r"(?!\.|build$)").match  # in build/ programs have their own
    folders = [each for each in ROOT.iterdir() if each.is_dir() and is_ours(each.name)]
    return [*ROOT.glob("*.md"), *(file for folder in folders for file in folder.rglob("*.md"))]


def leads_somewhere(file, link):
    """Tell whether a link's file exists and has the heading that the link names."""
    path, _, heading = link.partition("#")
    target = (file.parent / path) if path else file
    return target.exists() and (not heading or heading in anchors(target))


def anchors(file):
    """Return a document's headings as a link names them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", read(file)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


def read(file):
    """Return a file's text."""
    return file.read_text(encoding="utf-8")
