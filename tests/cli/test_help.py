"""Every command explains itself: -h, --help, examples that work, completion in a shell."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys

import click
import pytest
from click.testing import CliRunner

from admin import cli
from chassis.cli.options import PROGRAM
from tests.support import processes


def commands(group=cli, path=()):
    """Yield the path and the command of each command that does something by itself."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())
EXAMPLES = [
    line.strip()
    for command in (cli, *ALL.values())
    for line in (command.epilog or "").splitlines()
    if line.startswith("  ")
]


@pytest.mark.parametrize("path", [(), ("jobs",), ("keys",), ("outbox",), *ALL], ids=" ".join)
def test_each_command_has_a_short_way_to_ask_for_help(path):
    short, long = (CliRunner().invoke(cli, [*path, option]) for option in ("-h", "--help"))

    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert "-h, --help" in short.stdout


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_command_shows_an_example_of_itself(path):
    shown = CliRunner().invoke(cli, [*path, "--help"]).stdout

    assert f"  {PROGRAM} {' '.join(path)}" in shown.partition("Examples:")[2]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_taken_as_they_stand(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("users.ndjson", "users.full", "erased.txt"):
        (tmp_path / name).touch()
    words = shlex.split(example.partition("<")[0].partition(">")[0].removeprefix(PROGRAM))
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]

    parent = click.Context(cli, **cli.context_settings)
    with command.make_context(name, words, parent=parent) as context:
        assert context.params.keys() >= {each.name for each in command.params if each.expose_value}


@pytest.mark.parametrize("arguments", [["--version"], ["admin", "--version"]], ids=" ".join)
def test_the_version_is_told_in_any_environment(arguments):
    variables = {"APP_VERSION": "1.2.3", "PORT": "none"}

    result = processes.run(*processes.APP, *arguments, variables=variables)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "cloudnative-user-api 1.2.3\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_program_explains_itself_too(option):
    result = processes.run(*processes.APP, option)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: python app.py")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_the_words_that_may_come_next(shell):
    asked = {"COMP_WORDS": "admin outbox re", "COMP_CWORD": "2" if shell != "fish" else "re"}
    variables = asked | {"_ADMIN_COMPLETE": f"{shell}_complete", "PORT": "none"}

    script = processes.run(*processes.ADMIN, "completion", shell, variables={"PORT": "none"})
    words = processes.run(*processes.ADMIN, variables=variables)

    assert (script.returncode, script.stderr) == (0, "")
    assert f"_ADMIN_COMPLETE={shell}_complete" in script.stdout
    assert (words.returncode, words.stderr) == (0, "")
    assert "requeue" in words.stdout
    assert "migrate" not in words.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="the completion of bash")
def test_bash_completes_as_the_documentation_sets_it_up(tmp_path):
    program = tmp_path / "admin"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {processes.ROOT}/app.py admin "$@"\n')
    program.chmod(stat.S_IRWXU)
    typed = (
        f'PATH="{tmp_path}:$PATH"; eval "$(admin completion bash)"; '
        "COMP_WORDS=(admin migr); COMP_CWORD=1; _admin_completion admin; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )

    result = processes.run("bash", "-c", typed)

    assert (result.stdout, result.stderr) == ("migrate\n", "")
