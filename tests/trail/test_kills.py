"""Killed work leaves its effect and its rows, or neither; nothing is exported without a row."""

from __future__ import annotations

import json
import sys

import pytest
from sqlalchemy import func, select

from chassis.background.outbox import messages
from tests.support.deeds import deeds
from tests.support.processes import start
from tests.trail.work import DEEDS, World
from userservice.actions import Action
from userservice.jobs.queries import jobs
from userservice.logins.queries import tokens
from userservice.users.queries import users


@pytest.fixture(scope="module")
def killer():
    """The program that does work, and kills the process in which it does."""
    with start(sys.executable, "-m", "tests.trail.killed", stderr=None) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def world(config, services, tmp_path):
    return World(config, services, tmp_path)


@pytest.fixture
def kill(killer, database_url, tmp_path):
    """Call that kills work at a point; returns whether there is such a point, and the output."""

    def act(words, point):
        file = tmp_path / "out"
        line = {"url": database_url, "words": words, "file": str(file), "point": point}
        print(json.dumps(line), file=killer.stdin, flush=True)
        return json.loads(killer.stdout.readline()), file.read_bytes()

    return act


def count(database, *conditions):
    with database.connection() as connection:
        return connection.scalar(select(func.count()).where(*conditions))


# Command -> the number of things that are as it leaves them.
EFFECTS = {
    "sessions end": lambda database: -count(database, tokens.c.token_hash.is_not(None)),
    "jobs cancel": lambda database: count(database, jobs.c.state == "cancelled"),
    "outbox requeue": lambda database: -count(database, messages.c.status == "abandoned"),
    "import --restore": lambda database: count(database, users.c.id.is_not(None)),
    "erase": lambda database: -count(database, users.c.id.is_not(None)),
    "cleanup": lambda database: -len(deeds(database, Action.USER_CHANGED)),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_after_a_kill_an_effect_and_its_row_are_both_there_or_both_absent(
    kill, config, services, tmp_path, name
):
    action, prepare = DEEDS[name]
    outcomes: list[bool] = []
    was_killed = True
    while was_killed:
        world = World(config, services, tmp_path)
        work = prepare(world)
        words = (*name.partition(" --")[0].split(), *work.arguments)
        before, rows = EFFECTS[name](world.database), len(deeds(world.database, action))

        was_killed, _ = kill(words, len(outcomes) + 1)

        is_done = EFFECTS[name](world.database) != before
        assert is_done is (len(deeds(world.database, action)) > rows)
        outcomes.append(is_done)
    assert len(outcomes) > 2
    assert (outcomes[0], outcomes[-1]) == (False, True)


def test_after_a_kill_an_import_that_is_queued_has_its_row(kill, world):
    outcomes: list[int] = []
    was_killed = True
    while was_killed:
        was_killed, _ = kill(("POST", "/users/import"), len(outcomes) + 1)

        queued = count(world.database, jobs.c.state == "queued")
        assert queued == len(deeds(world.database, Action.IMPORT_CREATED))
        assert queued == count(world.database, messages.c.topic == "users.import")
        outcomes.append(queued)
    assert len(outcomes) > 4
    assert (outcomes[0], outcomes[-1]) == (0, 2)


@pytest.mark.parametrize(
    ("words", "action"),
    [
        (("GET", "/users/export"), Action.USERS_EXPORTED),
        (("GET", "/users/{id}/export"), Action.USER_EXPORTED),
        (("export", "-"), Action.USERS_EXPORTED),
        (("export", "--full", "-"), Action.USERS_BACKED_UP),
    ],
    ids=str,
)
def test_after_a_kill_nothing_was_handed_out_without_a_row(kill, world, words, action):
    sent: list[bool] = []
    was_killed = True
    while was_killed:
        rows = len(deeds(world.database, action))

        was_killed, out = kill([each.format(id=world.id) for each in words], len(sent) + 1)

        assert not out or len(deeds(world.database, action)) > rows
        sent.append(bool(out))
    assert len(sent) > 2
    assert (sent[0], sent[-1]) == (False, True)
