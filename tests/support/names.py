"""A name server that answers, hangs or fails."""

from __future__ import annotations

import threading

from chassis.network.resolver import look_up
from tests.support.ports import HOST


class NameServer:
    """Knows one host for every name: this one; answers, hangs or fails as it is told."""

    def __init__(self):
        self.failure = None
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, _host, port):
        self.asked += 1
        self.answers.wait()
        if self.failure:
            raise self.failure
        return look_up(HOST, port)
