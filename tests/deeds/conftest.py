"""A world for each deed, the application that it is done in, and the rows that it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from bootstrap import make_links
from chassis.storage.audit import events
from chassis.storage.columns import Base
from tests.conftest import make_app
from tests.deeds.world import AGENT, CLIENT, World


def configured(config, verification):
    """Return the configuration of an operator who mails links."""
    values = {"email_verification": verification, "public_url": "https://example.com"}
    return replace(config, **values)


@pytest.fixture
def clients(config, services):
    """EMAIL_VERIFICATION -> a client of such an application; personal data come with each call."""

    def make(verification):
        client = make_app(configured(config, verification), services).test_client()
        client.environ_base |= {"HTTP_USER_AGENT": AGENT, "REMOTE_ADDR": CLIENT}
        return client

    return {each: make(each) for each in ("off", "optional")}


@pytest.fixture
def services(config, services):
    """The attached resources, with a page for links."""
    return replace(services, links=make_links(configured(config, "off")))


@pytest.fixture
def world(services, config, trail):
    """A user whom a deed is about; the trail begins after it."""
    made = World(services, config)
    trail.forget()
    return made


class Trail:
    """The audit trail since the last look at it."""

    def __init__(self, database):
        self._database = database
        self._known = set()

    def forget(self):
        """Leave out what is there by now."""
        self._known = {each.id for each in self._rows()}

    def read(self):
        """Return the rows that came since."""
        return [each for each in self._rows() if each.id not in self._known]

    def _rows(self):
        with self._database.connection() as connection:
            return connection.execute(select(events).order_by(events.c.id)).all()


@pytest.fixture
def trail(database):
    """The audit trail."""
    return Trail(database)


@pytest.fixture
def do(world, clients, trail):
    """Call that prepares a deed and does it; it returns the answer."""

    def act(deed):
        call = deed.call(world)
        trail.forget()
        return send(clients[deed.verification], call)

    return act


def send(client, call):
    """Send a call."""
    return client.open(
        call.path, method=call.method, headers=call.headers, json=call.json, data=call.form
    )


def snapshot(database):
    """Return all rows of all tables, but for the trail."""
    with database.connection() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table))))
            for table in Base.metadata.sorted_tables
            if table is not events
        }
