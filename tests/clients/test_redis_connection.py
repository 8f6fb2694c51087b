"""Connections to Redis: the look-up of its host is bounded in time."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import redis as redis_library

from chassis.clients.redis_connection import make_client
from tests.support.ports import HOST, free_port
from tests.support.waiting import DEADLINE_SECONDS

SHORT = timedelta(seconds=0.4)
LONG = timedelta(seconds=DEADLINE_SECONDS)
pytestmark = pytest.mark.integration


@pytest.fixture
def url(redis_url):
    return redis_url.replace(HOST, "redis.example")


def test_redis_is_found_by_its_name_and_asked_for_it_once(url, names):
    with closing(make_client(url, timeout=LONG, look_up=names)) as client:
        assert [client.ping(), client.ping()] == [True, True]

    assert names.asked == 1


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_name_server_that_hangs_is_a_time_out(url, names, scheme):
    names.answers.clear()
    parts = urlsplit(url)._replace(scheme=scheme)

    with (
        closing(make_client(parts.geturl(), timeout=SHORT, look_up=names)) as client,
        pytest.raises(redis_library.TimeoutError, match="name server"),
    ):
        client.ping()


def test_the_last_address_serves_new_connections(url, names):
    with closing(make_client(url, timeout=timedelta(seconds=4), look_up=names)) as client:
        client.ping()
        names.answers.clear()
        client.connection_pool.disconnect()

        assert client.ping()


def test_a_host_that_does_not_exist_is_an_error_of_redis(url, names):
    names.failure = socket.gaierror(socket.EAI_NONAME, "no such host")

    with (
        closing(make_client(url, timeout=LONG, look_up=names)) as client,
        pytest.raises(redis_library.ConnectionError, match="no such host"),
    ):
        client.ping()


def test_the_next_address_is_tried_when_one_refuses(url):
    def look_up(_host, port):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", HOST)
        ]

    with closing(make_client(url, timeout=LONG, look_up=look_up)) as client:
        assert client.ping()


def test_a_server_that_is_away_is_an_error_that_names_it(names):
    url = f"redis://redis.example:{free_port()}"

    with (
        closing(make_client(url, timeout=LONG, look_up=names)) as client,
        pytest.raises(redis_library.ConnectionError, match="refused"),
    ):
        client.ping()
