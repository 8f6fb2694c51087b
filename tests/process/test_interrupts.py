"""One-off processes end in order when they are told to, and go on when they are told not to."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.support import processes

PROGRAM = """
import os, signal
from chassis.process import interrupts

{before}
interrupts.end_in_order()
try:
    os.kill(os.getpid(), signal.{number})
    print("went on")
finally:
    os.kill(os.getpid(), signal.{number})
    print("cleaned up")
"""


def run(number, before=""):
    return processes.run(sys.executable, "-c", PROGRAM.format(number=number, before=before))


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_process_cleans_up_when_it_is_told_to_end_even_twice(number):
    ended = run(number)

    assert ended.returncode == 128 + getattr(signal, number)
    assert (ended.stdout, ended.stderr) == ("cleaned up\n", "")


def test_a_process_goes_on_without_its_terminal_where_nohup_said_so():
    ended = run("SIGHUP", before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")

    assert ended.returncode == 0
    assert (ended.stdout, ended.stderr) == ("went on\ncleaned up\n", "")


DROPPING = """
import os, signal, time, weakref
from chassis.process import interrupts

class Referent:
    pass

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

interrupts.end_in_order()
try:
    {place}
    time.sleep(60)
    print("went on")
finally:
    os.kill(os.getpid(), signal.SIGTERM)
    print("cleaned up")
"""


@pytest.mark.parametrize(
    "place",
    ["weakref.ref(Referent(), lambda _: os.kill(os.getpid(), signal.SIGTERM))", "Finalized()"],
    ids=["callback", "finalizer"],
)
def test_a_signal_within_a_callback_whose_exceptions_are_dropped_is_heard(place):
    ended = processes.run(sys.executable, "-c", DROPPING.format(place=place))

    assert ended.returncode == 128 + signal.SIGTERM
    assert (ended.stdout, ended.stderr) == ("cleaned up\n", "")
