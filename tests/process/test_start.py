"""Processes that cannot start say why in one line."""

from __future__ import annotations

import io
import os
import socket
import threading
from contextlib import suppress
from datetime import timedelta

import pytest

from chassis.process.start import greet, refuse, require_address
from tests.support.ports import HOST, free_port
from tests.support.waiting import DEADLINE_SECONDS

AT_ONCE = timedelta(0)
DEADLINE = timedelta(seconds=DEADLINE_SECONDS)
FOREIGN = "192.0.2.1"  # reserved for documentation, so of no machine


@pytest.fixture
def taken():
    """A socket that listens on a port of this machine."""
    with socket.create_server((HOST, free_port())) as server:
        yield server


def port_of(server):
    return server.getsockname()[1]


def test_a_free_port_may_be_listened_on():
    require_address(HOST, free_port(), setting="PORT", patience=AT_ONCE)


def test_connections_that_ended_a_moment_ago_leave_their_port_free(taken):
    with socket.create_connection(taken.getsockname()) as client:
        taken.accept()[0].close()  # the side that closes first remembers the port for a minute
        client.recv(1)
    port = port_of(taken)
    taken.close()

    require_address(HOST, port, setting="PORT", patience=AT_ONCE)

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))  # without the option that servers set


def test_a_port_in_use_is_refused_in_one_line_that_names_its_setting(taken, capsys):
    with pytest.raises(SystemExit) as refused:
        require_address(HOST, port_of(taken), setting="PORT", patience=AT_ONCE)

    assert refused.value.code == 1
    said = f"Cannot listen on port {port_of(taken)} (PORT): Address already in use\n"
    assert capsys.readouterr().err == said


def test_a_port_that_becomes_free_is_waited_for(taken):
    threading.Timer(0.2, taken.close).start()

    require_address(HOST, port_of(taken), setting="PORT", patience=DEADLINE)

    assert taken.fileno() == -1


def test_an_address_that_will_not_become_free_is_not_waited_for(capsys):
    with pytest.raises(SystemExit):
        require_address(FOREIGN, free_port(), setting="PORT", patience=timedelta(days=1))

    assert capsys.readouterr().err.endswith("(PORT): Cannot assign requested address\n")


def test_settings_that_no_start_can_use_have_a_status_of_their_own(capsys):
    with pytest.raises(SystemExit) as refused:
        refuse("PORT must be a whole number")

    assert refused.value.code == 2
    assert capsys.readouterr().err == "PORT must be a whole number\n"


@pytest.fixture
def terminal():
    """A terminal on which somebody is to read something, and its other end."""
    reader, writer = os.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
    os.close(reader)


def test_a_person_at_a_terminal_is_greeted(terminal):
    reader, stream = terminal

    greet(stream, "Welcome")

    assert os.read(reader, 100) == b"Welcome"


def test_no_other_reader_is_greeted():
    log = io.StringIO()

    greet(log, "Welcome")
    greet(None, "Welcome")

    assert log.getvalue() == ""


def test_a_terminal_that_is_held_keeps_nobody_waiting(terminal):
    _, stream = terminal
    os.set_blocking(stream.fileno(), False)
    with suppress(BlockingIOError):
        while os.write(stream.fileno(), b"x" * 1000):
            pass
    os.set_blocking(stream.fileno(), True)

    greet(stream, "Welcome")  # and returns
