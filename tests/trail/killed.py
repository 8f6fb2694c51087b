"""Does work in processes that are killed in the middle; a program for tests/trail/test_kills.py.

It reads a line for each: the URL of a database, the words of a command, or the method and the path
of a request, a file for all that is handed out, and the number of a point, as in
tests/deeds/killed.py. It answers with a line: whether the work was killed.
"""

from __future__ import annotations

import io
import json
import sys
from functools import partial
from pathlib import Path

from admin import AdminCommands, cli
from chassis.http.context import context_of
from config import AppConfig
from tests.deeds.killed import do, make
from tests.deeds.world import KEY
from tests.trail.work import LINE


def request(app, out, method, path):
    """Send a request, and write the answer as it comes."""
    options = {"data": LINE, "content_type": "application/x-ndjson"} if method == "POST" else {}
    answer = app.test_client().open(path, method=method, headers=KEY, **options)
    for piece in answer.iter_encoded():
        out.write(piece)


def command(commands, words, out):
    """Run a command, whose output is not buffered."""
    sys.stdout = io.TextIOWrapper(out, write_through=True)
    cli.main(words, standalone_mode=False, obj=commands)


def main():
    """Do work until no line is left."""
    for line in map(json.loads, sys.stdin):
        app, database = make(line["url"], "off")
        words = line["words"]
        with Path(line["file"]).open("wb", buffering=0) as out:
            if words[0].isupper():
                work = partial(request, app, out, *words)
            else:
                config = AppConfig(database_url=line["url"], redis_url="")
                commands = AdminCommands(config, context_of(app).services)
                work = partial(command, commands, words, out)
            was_killed = do(database, work, line["point"])
        sys.stdout.write(json.dumps(was_killed) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
