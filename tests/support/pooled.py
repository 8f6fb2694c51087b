"""Functions that tests run in a process of a pool, which imports them by their names."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from opentelemetry import baggage, trace

from chassis.telemetry.log_fields import log_fields
from tests.support.waiting import eventually


def surroundings():
    """Return the trace, the baggage and the log fields that a task finds around it."""
    trace_id = trace.get_current_span().get_span_context().trace_id
    return trace_id, dict(baggage.get_all()), dict(log_fields.get())


def meet(folder, number):
    """Wait until as many processes are here at once, and return this one's id."""
    Path(folder, str(os.getpid())).touch()
    eventually(lambda: len(list(Path(folder).iterdir())) >= number)
    return os.getpid()


def interrupt():
    """Do to this process as Ctrl-C does to all of a terminal, and tell what it did."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:  # would end whoever waits for the result
        return "ended"
    return "went on"
