"""Faults of the web process."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.chaos.fault import Fault, Part
from tests.support.chaos.scene import Chaos, are_gone
from tests.support.waiting import eventually

# The parts without which a new process does not become ready.
NEEDED = frozenset({Part.WEB, Part.DATABASE, Part.NAMES})


@contextmanager
def web_is_replaced(chaos: Chaos) -> Iterator[None]:
    """Start a new web process, send the clients there, and stop the old one under load."""
    old, new = chaos.web, chaos.start_web()
    old.send(signal.SIGTERM)
    # Clients hear of it a moment later, while the old one drains.
    time.sleep(0.3)
    chaos.send_clients_to(new)
    yield
    status = old.wait()
    chaos.check(status == 0, f"a web process stops: status {status}")


@contextmanager
def web_is_killed(chaos: Chaos) -> Iterator[None]:
    """Kill the master of the web workers alone; they end with it, and another one comes."""
    old, workers = chaos.web, chaos.web.children
    with chaos.clients_may_hear_nothing():
        old.send(signal.SIGKILL)
        old.wait()
        chaos.send_clients_to(chaos.start_web())
    yield
    chaos.check(are_gone(workers), "web workers end with their master")


@contextmanager
def web_is_reloaded(chaos: Chaos) -> Iterator[None]:
    """Send SIGHUP: new workers come, the old ones answer what they were asked and end."""
    master, old = chaos.web, set(chaos.web.children)
    master.send(signal.SIGHUP)
    yield
    try:
        eventually(lambda: not old & set(master.children), 20)
    except AssertionError:
        chaos.check(False, "old web workers end after SIGHUP")  # noqa: FBT003


FAULTS = {
    "the web process is replaced": Fault(web_is_replaced, NEEDED, replaces_web=True),
    "the web process is killed": Fault(web_is_killed, NEEDED, replaces_web=True),
    "the web process gets SIGHUP": Fault(web_is_reloaded, frozenset({Part.WEB}), replaces_web=True),
}
