"""A value that is made on first use is made once, however many threads ask for it."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

import chassis
import userservice
from app import create_app
from bootstrap import MAILS
from chassis.clients.http_client import HttpClient
from chassis.clients.mail_templates import MailTemplates
from chassis.clients.redis import RedisManager
from chassis.clients.smtp_client import SmtpClient
from chassis.clients.smtp_server import SmtpServer
from chassis.http.docs import Description
from chassis.http.rate_limit import RateLimiter
from chassis.once import once, once_property
from chassis.security import PasswordHasher
from config import AppConfig
from observability import Telemetry
from tests.support.processes import ROOT

THREADS = 16
SECOND = timedelta(seconds=1)


def ask_together(ask):
    """Return what each of many threads is given that ask at one moment."""
    barrier = threading.Barrier(THREADS)

    def run():
        barrier.wait()
        return ask()

    with ThreadPoolExecutor(THREADS) as threads:
        return [each.result() for each in [threads.submit(run) for _ in range(THREADS)]]


def make_limiter():
    return RateLimiter({"login": "10/minute"}, redis_url="redis://localhost:1", timeout=SECOND)


def make_redis():
    return RedisManager("redis://localhost:1", max_connections=1, timeout=SECOND)


def make_smtp():
    server = SmtpServer.at("smtps://localhost:1")
    return SmtpClient(server, timeout=SECOND, ping_timeout=SECOND)


# Class -> how to make one that has made nothing yet.
OWNERS = {
    HttpClient: lambda: HttpClient(timeout=SECOND),
    SmtpClient: make_smtp,
    MailTemplates: lambda: MailTemplates(MAILS, {}),
    RedisManager: make_redis,
    RateLimiter: make_limiter,
    PasswordHasher: lambda: PasswordHasher(memory_kib=8, time_cost=1),
    Telemetry: lambda: Telemetry(AppConfig()),
    Description: lambda: Description(create_app(AppConfig(database_url="sqlite://", redis_url=""))),
}


def first_uses():
    """Return (class, attribute) of all that the product makes on first use and keeps."""
    modules = [importlib.import_module("observability")] + [
        importlib.import_module(each.name)
        for package in (chassis, userservice)
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    classes = {
        each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)
    }
    return sorted(
        (
            (each, name)
            for each in classes
            for name, value in vars(each).items()
            if isinstance(value, once_property)
        ),
        key=str,
    )


@pytest.fixture
def quick_switches():
    """Threads that take turns so often that a gap of a few instructions is met."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize(
    ("owner", "name"), first_uses(), ids=lambda each: getattr(each, "__name__", each)
)
@pytest.mark.usefixtures("quick_switches")
def test_many_threads_that_come_first_are_given_one_and_the_same(owner, name):
    holder = OWNERS[owner]()

    given = ask_together(lambda: getattr(holder, name))

    assert {id(each) for each in given} == {id(given[0])}
    if hasattr(holder, "close"):
        holder.close()


def test_there_are_first_uses_to_be_tried():
    assert {owner for owner, _ in first_uses()} == set(OWNERS)


def test_a_slow_function_is_called_once_by_many_threads():
    calls = []
    started = threading.Event()

    @once
    def make(name):
        calls.append(name)
        started.wait(0.05)  # an interval in which all others ask; a lock makes them wait
        return object()

    given = ask_together(lambda: make("a"))

    assert calls == ["a"]
    assert len(set(given)) == 1
    assert make("b") is not given[0]


def test_a_slow_property_is_made_once_by_many_threads_for_each_object():
    made = []

    class Holder:
        @once_property
        def value(self):
            made.append(self)
            threading.Event().wait(0.05)
            return object()

    one, other = Holder(), Holder()

    assert len(set(ask_together(lambda: one.value))) == 1
    assert other.value is not one.value
    assert made == [one, other]


def test_what_failed_is_tried_again():
    answers = iter([LookupError, None])

    @once
    def make():
        if answer := next(answers):
            raise answer
        return "made"

    with pytest.raises(LookupError):
        make()
    assert make() == "made"


# All metrics are made, each by many threads at once, in a process in which there are none yet.
FIRST_METRICS = """
import inspect, json, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import prometheus_client.metrics as metrics
from chassis.telemetry import instruments
from userservice.jobs import metrics as of_jobs
from userservice.users import metrics as of_users

real = metrics.MetricWrapperBase.__init__
def slow(self, *arguments, **options):
    time.sleep(0.01)  # widens the gap in which another thread makes the same one
    real(self, *arguments, **options)
metrics.MetricWrapperBase.__init__ = slow

made = [
    function for module in (instruments, of_jobs, of_users)
    for _, function in inspect.getmembers(module)
    if hasattr(function, "__wrapped__") and not inspect.signature(function.__wrapped__).parameters
]
def first(function):
    barrier = threading.Barrier(8)
    def ask():
        barrier.wait()
        return id(function())
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask) for _ in range(8)]
    return [repr(each.exception()) if each.exception() else each.result() for each in asked]
print(json.dumps({each.__wrapped__.__name__: len(set(first(each))) for each in made}))
"""


def test_no_thread_fails_because_another_makes_the_same_metric():
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}

    result = subprocess.run(
        [sys.executable, "-c", FIRST_METRICS],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )

    kinds = json.loads(result.stdout)
    assert len(kinds) > 10
    assert kinds == dict.fromkeys(kinds, 1)
