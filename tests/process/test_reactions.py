"""Work that signals ask for takes no lock in a handler, and keeps no other signal waiting."""

from __future__ import annotations

import os
import signal
import sys
import threading
from queue import SimpleQueue

from chassis.process.reactions import Pending, beside
from tests.support.processes import run
from tests.support.waiting import DEADLINE_SECONDS, eventually

NESTED = """
import os, signal, threading, time
from chassis.process.reactions import beside

heard = 0
reacted = []
react = beside("reaction", lambda: reacted.append(None))

def handle(_number, _frame):
    global heard
    react()
    heard += 1

signal.signal(signal.SIGUSR1, handle)
main = threading.main_thread().ident

def flood():
    for _ in range(2000):
        signal.pthread_kill(main, signal.SIGUSR1)

sender = threading.Thread(target=flood)
sender.start()
while sender.is_alive():
    threading.Thread(target=int).start()  # holds the lock by which threads are started
while len(reacted) < heard:
    time.sleep(0.001)
print(heard > 0)
"""


def test_a_thread_reacts_to_each_call():
    reacted: SimpleQueue[str] = SimpleQueue()
    react = beside("reaction", lambda: reacted.put(threading.current_thread().name))

    react()

    assert reacted.get(timeout=DEADLINE_SECONDS) == "reaction"


def test_a_flood_of_signals_finds_no_lock_that_it_would_wait_for():
    result = run(sys.executable, "-c", NESTED)

    assert (result.returncode, result.stdout) == (0, "True\n")


def test_a_signal_waits_for_its_turn_once():
    queued: list[int] = []
    handled: list[None] = []
    pending = Pending(lambda number, _frame: queued.append(number), lambda: handled.append(None))

    for _ in range(3):
        pending.hear(signal.SIGUSR2, None)
    pending.handle()
    pending.hear(signal.SIGUSR2, None)

    assert queued == [signal.SIGUSR2] * 2
    assert len(handled) == 1


def test_one_that_comes_while_it_is_handled_waits_for_the_next_turn():
    queued: list[int] = []
    pending = Pending(
        lambda number, _frame: queued.append(number), lambda: pending.hear(signal.SIGUSR2, None)
    )

    pending.hear(signal.SIGUSR2, None)
    pending.handle()

    assert queued == [signal.SIGUSR2] * 2


def test_floods_of_both_signals_neither_end_a_web_process_nor_keep_it_from_ending(serve):
    service = serve(WEB_CONCURRENCY="2")
    before = service.workers

    for number in [signal.SIGUSR2, signal.SIGUSR1] * 500:
        service.process.send_signal(number)
    eventually(lambda: service.client.get("/health").status_code == 200)
    workers = service.workers
    service.stop()

    assert workers == before
    assert service.process.returncode == 0
    assert service.output.count("Handling signal: usr2") < 500


def test_floods_of_both_signals_neither_end_a_worker_nor_keep_it_from_ending(deployment):
    worker = deployment.worker()
    worker.await_ready()

    for number in [signal.SIGUSR1, signal.SIGUSR2] * 500:
        os.kill(worker.process.pid, number)
    status, _ = worker.stop()

    assert status == 0
