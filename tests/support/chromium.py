"""A browser, driven by its DevTools protocol through a pipe: no port, and no driver beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections import defaultdict
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from tests.support.waiting import DEADLINE_SECONDS

Event = dict[str, Any]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = f"none of {', '.join(NAMES)} is installed"
# The browser reads commands from 3 and writes answers to 4.
WITH_PIPES = 'exec "$@" 3<&0 4>&1 </dev/null >&2'
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    # It finds no host but this machine, and looks for no updates.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
)


class Chromium:
    """A browser process, whose profile is a folder of its own."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM, MISSING
        # Its sandbox is refused to root, as whom containers run tests.
        sandbox = () if os.geteuid() else ("--no-sandbox",)
        command = [PROGRAM, *OPTIONS, *sandbox, f"--user-data-dir={folder}", "about:blank"]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", WITH_PIPES, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._numbers = count(1)
        self._answers: dict[int, Event] = {}
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._changed = threading.Condition()
        self._is_open = True
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Event:
        """Send a command and return its result; fail when it fails, or does not come."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        commands = cast("IO[bytes]", self._process.stdin)
        with self._changed:
            commands.write(json.dumps(message).encode() + b"\0")
            commands.flush()
            self._changed.wait_for(
                lambda: number in self._answers or not self._is_open, DEADLINE_SECONDS
            )
            answer = self._answers.pop(number, None)
        assert answer is not None, self._log.read_text(errors="replace")
        assert "error" not in answer, (method, answer["error"])
        return cast("Event", answer["result"])

    def events(self, session: str, *methods: str) -> list[Event]:
        """Return the parameters of the events of some kinds, in their order."""
        with self._changed:
            found = list(self._events[session])
        return [each["params"] for each in found if each["method"] in methods]

    def close(self) -> None:
        """End the browser, one way or another."""
        try:
            if self._is_open:
                self.call("Browser.close")
            self._process.wait(DEADLINE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            for stream in (self._process.stdin, self._process.stdout):
                cast("IO[bytes]", stream).close()

    def _read(self) -> None:
        """Sort messages, each of which ends in a zero byte, until the browser ends."""
        rest = b""
        answers = cast("IO[bytes]", self._process.stdout)
        while piece := os.read(answers.fileno(), 1 << 16):
            *messages, rest = (rest + piece).split(b"\0")
            with self._changed:
                for message in map(json.loads, messages):
                    self._sort(message)
                self._changed.notify_all()
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def _sort(self, message: Event) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self._events[message.get("sessionId", "")].append(message)
