"""Sockets that are connected, written and read by a deadline."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from chassis.network.deadline import Deadline
from chassis.network.resolver import Address

PIECE_BYTES = 16_384


class ConnectError(ConnectionError):
    """There is no connection: no address, nobody there, or a certificate that does not hold."""


def connect(addresses: Sequence[Address], deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; each has its share of the time that is left.

    Raises:
        OSError: none answered; a TimeoutError: none in time.
    """
    failure: OSError = ConnectError()
    for tried, address in enumerate(addresses):
        try:
            return _reach(address, deadline.remaining() / (len(addresses) - tried))
        except OSError as error:
            failure = error
    raise failure


def send_all(peer: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Send all of the data.

    Raises:
        OSError: the other side has gone; a TimeoutError: it does not read in time.
    """
    rest = memoryview(data)
    while rest:
        peer.settimeout(deadline.remaining())
        rest = rest[peer.send(rest) :]


def receive(peer: socket.socket, deadline: Deadline) -> bytes:
    """Return the bytes that arrive next, at least one.

    Raises:
        OSError: the other side has gone; a TimeoutError: it sends nothing in time.
    """
    peer.settimeout(deadline.remaining())
    if data := peer.recv(PIECE_BYTES):
        return data
    raise ConnectionResetError


def is_quiet(peer: socket.socket) -> bool:
    """Tell whether the other side has neither hung up nor said what nobody asked for."""
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return not poll.poll(0)


def _reach(address: Address, seconds: float) -> socket.socket:
    family, kind, protocol, _, place = address
    peer = socket.socket(family, kind, protocol)
    try:
        peer.settimeout(seconds)
        peer.connect(place)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        peer.close()
        raise
    return peer
