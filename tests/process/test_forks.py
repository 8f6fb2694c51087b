"""A signal that comes right after a fork ends the child, and is not taken for its parent's."""

from __future__ import annotations

import sys

from tests.support.processes import run

PROGRAM = """
import os, signal, sys
from chassis.process import forks

signal.signal(signal.SIGTERM, lambda *_: print("the parent's handler", flush=True))
reader, writer = os.pipe()
forks.hold_signals()
child = os.fork()
if child:
    os.kill(child, signal.SIGTERM)
    os.write(writer, b"sent")
    os.waitpid(child, 0)
    os.kill(os.getpid(), signal.SIGTERM)
else:
    os.read(reader, 4)
    signal.signal(signal.SIGTERM, lambda *_: print("the child's handler", flush=True))
    forks.hear_signals()
    os._exit(0)
"""


# The hooks of gunicorn.conf.py, and a web worker that has not begun.
WORKER = """
import os, runpy, signal
from types import SimpleNamespace as Some
from gunicorn.config import Config
from chassis.http.worker import Worker

hooks = runpy.run_path("gunicorn.conf.py")
worker = Worker(1, 1, [], None, 30, Config(), None)
"""


def test_a_child_gets_the_signal_that_came_before_its_handler():
    result = run(sys.executable, "-c", PROGRAM)

    assert result.stdout.splitlines() == ["the child's handler", "the parent's handler"]


def test_signals_wait_from_the_fork_of_a_web_worker_to_its_handlers():
    program = (
        "held = lambda: signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "server = Some(WORKERS={}, num_workers=1); worker.PIPE = (0, -1)\n"
        "hooks['pre_fork'](server, worker); before = held(); worker.init_signals()\n"
        "hooks['on_exit'](server); print(before, held())"
    )

    result = run(sys.executable, "-c", WORKER + program)

    assert (result.stdout, result.stderr) == ("True False\n", "")


def test_a_web_worker_may_be_told_to_end_before_it_has_an_application():
    """Ctrl-C while it starts: gunicorn would log the exception, traceback and all."""
    program = (
        "worker.pid = os.getpid()\n"
        "hooks['worker_exit'](None, worker); hooks['on_exit'](None); print('ended')"
    )

    result = run(sys.executable, "-c", WORKER + program)

    assert (result.stdout, result.stderr) == ("ended\n", "")
