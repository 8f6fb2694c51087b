"""A listening socket ends without a reset for anybody who had connected."""

from __future__ import annotations

import errno
import select
import socket
import sys

import pytest

from chassis.http.handshakes import turn_away
from tests.support.ports import HOST

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters")


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def listener(request):
    """A listening socket that takes clients of IPv4."""
    with socket.socket(request.param) as listening:
        listening.bind(("::" if request.param == socket.AF_INET6 else HOST, 0))
        listening.listen()
        listening.settimeout(10)
        yield listening


def connect(listener, timeout):
    return socket.create_connection((HOST, listener.getsockname()[1]), timeout)


def test_who_has_connected_is_served_and_who_has_not_is_turned_away(listener):
    with connect(listener, 10) as before:
        before.sendall(b"early")

        assert turn_away(listener)

        before.sendall(b" and late")
        with pytest.raises(TimeoutError):
            connect(listener, 0.2)
        with listener.accept()[0] as accepted:
            accepted.sendall(b"answer")
            assert accepted.recv(100) == b"early and late"
        assert before.recv(100) == b"answer"


def test_who_was_turned_away_is_refused_once_the_socket_is_closed(listener):
    port = listener.getsockname()[1]
    turn_away(listener)
    with socket.socket() as client:
        client.settimeout(0)
        client.connect_ex((HOST, port))
        listener.close()

        select.select([], [client], [], 10)
        error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    assert error == errno.ECONNREFUSED


def test_a_unix_socket_is_left_as_it_is(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()

        assert not turn_away(listening)
