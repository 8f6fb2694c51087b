"""Addresses of the database's hosts: bounded in time, and each host with each of its addresses."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import make_url, text

from chassis.errors import Unavailable
from chassis.network.deadline import Deadline
from chassis.network.resolver import Resolver
from chassis.storage.addresses import with_addresses
from chassis.storage.database import DatabaseManager
from tests.support.waiting import DEADLINE_SECONDS

SHORT = timedelta(seconds=0.4)
LONG = timedelta(seconds=DEADLINE_SECONDS)
pytestmark = pytest.mark.integration


@pytest.fixture
def managed(postgresql_url, names):
    """Open the database by a name that this name server alone knows."""
    opened = []

    def open_database(timeout=SHORT):
        url = make_url(postgresql_url).set(host="database.example")
        manager = DatabaseManager(
            url.render_as_string(hide_password=False), connect_timeout=timeout, look_up=names
        )
        opened.append(manager)
        return manager.initialize()

    yield open_database
    for manager in opened:
        manager.close()


def ask(manager):
    with manager.connection() as connection:
        return connection.scalar(text("SELECT 1"))


def test_a_database_is_found_by_its_name(managed):
    assert ask(managed(LONG)) == 1


def test_a_name_server_that_hangs_makes_an_outage(managed, names):
    names.answers.clear()
    manager = managed()

    with pytest.raises(Unavailable):
        ask(manager)
    with pytest.raises(Unavailable), manager.prepared():
        pass

    names.answers.set()
    assert ask(managed(LONG)) == 1


def test_the_last_address_serves_new_connections(managed, names):
    manager = managed(timedelta(seconds=4))
    with manager.connection():
        names.answers.clear()

        assert ask(manager) == 1  # on a second connection
    assert names.asked == 2


def test_a_host_that_does_not_exist_makes_an_outage(managed, names):
    names.failure = socket.gaierror(socket.EAI_NONAME, "no such host")

    with pytest.raises(Unavailable) as found:
        ask(managed(LONG))

    assert "no address of the database's host" in str(found.value.__cause__)


def test_the_pool_ends_though_a_name_server_hangs(managed, names):
    names.answers.clear()
    with closing(managed()) as manager, pytest.raises(Unavailable):
        ask(manager)


FIRST, SECOND = "192.0.2.1", "2001:db8::2"


def look_up_two(host, port):
    if host == "gone":
        raise socket.gaierror(socket.EAI_NONAME, "gone")
    return [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (FIRST, port)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (SECOND, port, 0, 0)),
    ]


@pytest.mark.parametrize(
    ("host", "port", "hosts", "addresses", "ports"),
    [
        ("db", 5433, "db,db", f"{FIRST},{SECOND}", "5433,5433"),
        ("db", None, "db,db", f"{FIRST},{SECOND}", "5432,5432"),
        ("a,gone", "1,2", "a,a", f"{FIRST},{SECOND}", "1,1"),
        ("gone,b", "1,2", "b,b", f"{FIRST},{SECOND}", "2,2"),
        ("gone,b", "7", "b,b", f"{FIRST},{SECOND}", "7,7"),
        (FIRST, 5432, FIRST, FIRST, "5432"),
        (SECOND, 5432, SECOND, SECOND, "5432"),
        ("/run/postgresql", 5432, "/run/postgresql", "", "5432"),
    ],
)
def test_each_host_is_tried_at_each_address(host, port, hosts, addresses, ports):
    found = with_addresses({"host": host, "port": port}, Resolver(look_up_two), Deadline(LONG))

    assert found == {"host": hosts, "hostaddr": addresses, "port": ports}


def test_hosts_of_which_none_has_an_address_are_an_error():
    with pytest.raises(socket.gaierror, match="gone"):
        with_addresses({"host": "gone"}, Resolver(look_up_two), Deadline(LONG))
