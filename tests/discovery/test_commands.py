"""Commands that make and show signing keys, and keep private ones to themselves."""

from __future__ import annotations

import json
import stat
import subprocess

import pytest
from click.testing import CliRunner

from admin import AdminCommands, cli
from chassis.settings.signing_keys import ALGORITHMS, load_key
from config import AppConfig
from tests.support import processes
from tests.support.signing import ISSUER, NAMES, ec_key, rsa_key, signing
from tests.support.terminal import Terminal
from tests.support.waiting import DEADLINE_SECONDS


def run(*arguments, **settings):
    operator = AdminCommands(AppConfig(**settings))
    return CliRunner().invoke(cli, ["keys", *map(str, arguments)], obj=operator)


def shown(**settings):
    """Return the lines of `keys show`, each as words."""
    return [line.split() for line in run("show", **settings).stdout.splitlines()]


def name_of(key):
    return load_key(key).key_id


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_is_made_for_an_algorithm_and_for_its_owner_alone(tmp_path, algorithm):
    file = tmp_path / "key.pem"

    result = run("generate", "--algorithm", algorithm, "--json", file)

    key = load_key(file.read_text())
    assert key.algorithm == algorithm
    assert json.loads(result.stdout) == {"kid": key.key_id, "alg": algorithm}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "PRIVATE" not in result.output


def test_each_key_is_another_one_and_signs_es256_unless_asked_otherwise(tmp_path):
    lines = [run("generate", tmp_path / f"{number}.pem").stdout.split() for number in range(2)]

    assert [line[:2] for line in lines] == [["made", "ES256"]] * 2
    assert lines[0][2] != lines[1][2]


def test_a_file_that_is_there_stays_as_it_is(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text(ec_key())

    result = run("generate", file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "is there already" in result.stderr
    assert file.read_text() == ec_key()


def test_standard_output_holds_the_key_and_nothing_else():
    result = processes.run(*processes.ADMIN, "keys", "generate", "-", variables={"PORT": "none"})

    assert result.returncode == 0
    assert result.stderr == f"made  ES256  {name_of(result.stdout)}\n"
    assert result.stdout.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert result.stdout.endswith("\n-----END PRIVATE KEY-----\n")


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_terminal_is_shown_no_private_key(name):
    terminal = Terminal()

    with subprocess.Popen(
        [*processes.ADMIN, "keys", "generate", name],
        cwd=processes.ROOT,
        env=processes.environment({}),
        stdin=subprocess.DEVNULL,
        stdout=terminal.device,
        stderr=subprocess.PIPE,
    ) as process:
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    terminal.close()

    assert (process.returncode, terminal.text) == (2, "")
    assert b"The output holds a private key: write it into a file" in errors


def test_a_key_that_was_made_is_one_that_the_service_takes(tmp_path):
    file = tmp_path / "key.pem"
    made = json.loads(run("generate", "--json", file).stdout)

    result = processes.run(
        *processes.ADMIN,
        *("keys", "show", "--json"),
        variables={"TOKEN_SIGNING_KEY_FILE": str(file), "TOKEN_ISSUER": ISSUER},
    )

    assert json.loads(result.stdout) == {
        "keys": [load_key(file.read_text()).jwk],
        "signs": made["kid"],
        "secret_holds": False,
    }


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, [["signs", "HS256", "-", "JWT_SECRET"]]),
        (
            NAMES | {"token_signing_key_next": ec_key()},
            [
                ["holds", "ES256", name_of(ec_key()), "TOKEN_SIGNING_KEY_NEXT"],
                ["signs", "HS256", "-", "JWT_SECRET"],
            ],
        ),
        (
            signing(token_signing_key_previous="HS256"),
            [
                ["signs", "ES256", name_of(ec_key()), "TOKEN_SIGNING_KEY"],
                ["holds", "HS256", "-", "JWT_SECRET"],
            ],
        ),
        (
            signing(token_signing_key_previous=rsa_key()),
            [
                ["signs", "ES256", name_of(ec_key()), "TOKEN_SIGNING_KEY"],
                ["holds", "RS256", name_of(rsa_key()), "TOKEN_SIGNING_KEY_PREVIOUS"],
            ],
        ),
    ],
    ids=["secret", "published", "signing", "rotated"],
)
def test_the_keys_are_shown_with_the_one_that_signs(settings, lines):
    assert shown(**settings) == lines


def test_the_set_is_the_one_that_is_published():
    settings = signing(token_signing_key_next=rsa_key())

    result = run("show", "--json", **settings)

    document = json.loads(result.stdout)
    assert document["keys"] == [load_key(key).jwk for key in (ec_key(), rsa_key())]
    assert document["signs"] == name_of(ec_key())
    assert "PRIVATE" not in result.output


def test_a_secret_that_signs_is_not_shown():
    secret = "a secret of thirty-two bytes, at least"

    document = json.loads(run("show", "--json", jwt_secret=secret).stdout)

    assert document == {"keys": [], "signs": "HS256", "secret_holds": True}
