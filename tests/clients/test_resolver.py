"""A name server that does not answer holds nobody beyond the deadline."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest

from chassis.clients.http_client import HttpClient
from chassis.errors import Unavailable
from chassis.network.deadline import Deadline
from chassis.network.resolver import Resolver
from tests.support.ports import HOST
from tests.support.raw_http import OK, RawService, says
from tests.support.waiting import DEADLINE_SECONDS

SHORT = timedelta(seconds=0.4)
LONG = timedelta(seconds=DEADLINE_SECONDS)
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def service():
    with closing(RawService(says(CLOSING, keeps=False))) as raw:
        raw.url = raw.url.replace(HOST, "mail.example")
        yield raw


def test_a_look_up_that_hangs_is_no_answer(names, service):
    names.answers.clear()
    with closing(HttpClient(timeout=SHORT, look_up=names)) as client:
        with pytest.raises(Unavailable, match="No answer: TimeoutError"):
            client.post(service.url, {}, {})
        with pytest.raises(Unavailable):
            client.ping(service.url)

    assert service.asked == []


def test_callers_at_once_wait_for_one_look_up(names, service):
    names.answers.clear()
    resolver = Resolver(names)

    with ThreadPoolExecutor(8) as threads:
        calls = [
            threads.submit(resolver.addresses, "mail.example", service.port, Deadline(SHORT))
            for _ in range(8)
        ]
        failures = [type(each.exception()) for each in calls]

    assert failures == [TimeoutError] * 8
    assert names.asked == 1


def test_the_last_address_serves_while_the_name_server_hangs(names, service):
    with closing(HttpClient(timeout=timedelta(seconds=2), look_up=names)) as client:
        client.post(service.url, {}, {})
        names.answers.clear()

        assert client.post(service.url, {}, {}).status == 200


@pytest.mark.parametrize("failure", [socket.gaierror(socket.EAI_AGAIN, "later"), OSError()])
def test_the_last_address_serves_while_the_name_server_fails(names, service, failure):
    with closing(HttpClient(timeout=LONG, look_up=names)) as client:
        client.post(service.url, {}, {})
        names.failure = failure

        assert client.post(service.url, {}, {}).status == 200


def test_a_name_that_is_gone_has_no_address_any_more(names, service):
    with closing(HttpClient(timeout=LONG, look_up=names)) as client:
        client.post(service.url, {}, {})
        names.failure = socket.gaierror(socket.EAI_NONAME, "gone")

        with pytest.raises(Unavailable, match="No answer: ConnectError"):
            client.post(service.url, {}, {})


def test_a_name_server_that_answers_again_is_believed(names, service):
    resolver = Resolver(names)
    names.answers.clear()
    with pytest.raises(TimeoutError):
        resolver.addresses("mail.example", service.port, Deadline(SHORT))
    names.answers.set()

    found = resolver.addresses("mail.example", service.port, Deadline(LONG))

    assert [each[4] for each in found] == [(HOST, service.port)]


def test_a_kept_connection_asks_for_no_name(names):
    with (
        closing(RawService(says(OK))) as kept,
        closing(HttpClient(timeout=LONG, look_up=names)) as client,
    ):
        url = kept.url.replace(HOST, "mail.example")
        client.post(url, {}, {})
        names.answers.clear()

        assert client.post(url, {}, {}).status == 200
