"""Does deeds in processes that are killed in the middle; a program for tests/deeds/test_kills.py.

It reads a line for each: the URL of a database, EMAIL_VERIFICATION, a call, and the number of a
point. Points are before each statement that writes, before each commit, and after each. A fork does
the deed, and is killed at the point. The program answers with a line: whether the fork was killed,
or came to its end because there is no such point.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial

from sqlalchemy import event

from app import create_app
from bootstrap import open_backing_services
from chassis.once import once
from config import AppConfig
from tests.deeds.conftest import configured, send
from tests.deeds.world import Call
from tests.support.deployment import API_KEY
from tests.support.factories import CHEAP_HASHER


class Points:
    """Counts the points of a deed, and kills the process at one of them."""

    def __init__(self, engine, last):
        self._left = last
        self._is_changing = False
        event.listen(engine, "do_execute", self._before_statement)
        event.listen(engine, "commit", self._pass)
        event.listen(engine, "checkin", self._after)

    def _before_statement(self, _cursor, statement, *_parameters):
        if not statement.startswith(("SELECT", "SET", "BEGIN")):
            self._pass()
            self._is_changing = True

    def _after(self, *_connection):
        if self._is_changing:
            self._pass()
        self._is_changing = False

    def _pass(self, *_connection):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def do(database, work, point):
    """Do work in a fork; tell whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Points(database.engine, point)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@once
def make(url, verification):
    """Make an application, which is not connected yet: forks connect; and its database."""
    config = AppConfig(database_url=url, redis_url="", api_key=API_KEY, rate_limit_enabled=False)
    config = configured(config, verification)
    services = replace(open_backing_services(config), hasher=CHEAP_HASHER)
    return create_app(config, services), services.database


def main():
    """Do deeds until no line is left."""
    for line in map(json.loads, sys.stdin):
        app, database = make(line["url"], line["verification"])
        work = partial(send, app.test_client(), Call(**line["call"]))
        was_killed = do(database, work, line["point"])
        sys.stdout.write(json.dumps(was_killed) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
