"""A process that is killed, wherever in a deed, leaves the change and its row, or neither."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import pytest

from tests.deeds.conftest import snapshot
from tests.deeds.deeds import DEEDS
from tests.deeds.world import World
from tests.support.processes import start

# Before a statement that writes, and after: no deed takes fewer, be it a single statement.
FEWEST_POINTS = 2


@pytest.fixture(scope="module")
def killer():
    """The program that does deeds, and kills the process in which it does."""
    with start(sys.executable, "-m", "tests.deeds.killed", stderr=None) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def kill(killer, database_url):
    """Call that does a deed, and kills the process at a point; False: there is no such point."""

    def act(deed, call, point):
        line = {"url": database_url, "verification": deed.verification, "point": point}
        print(json.dumps(line | {"call": asdict(call)}), file=killer.stdin, flush=True)
        return json.loads(killer.stdout.readline())

    return act


@pytest.mark.parametrize("name", DEEDS)
def test_after_a_kill_a_deed_and_its_row_are_both_there_or_both_absent(
    kill, services, config, trail, name
):
    outcomes: list[bool] = []
    was_killed = True
    while was_killed:
        call = DEEDS[name].call(World(services, config))
        before = snapshot(services.database)
        trail.forget()

        was_killed = kill(DEEDS[name], call, len(outcomes) + 1)

        is_done = snapshot(services.database) != before
        assert is_done is bool(trail.read())
        outcomes.append(is_done)
    assert len(outcomes) > FEWEST_POINTS
    assert (outcomes[0], outcomes[-2:]) == (False, [True, True])
