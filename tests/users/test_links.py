"""Links for users: each change of password, address or standing voids them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from chassis.errors import Undeliverable
from chassis.links import InvalidLink
from chassis.storage.ids import uuid7
from tests.support.factories import make_user
from userservice.users import links, service
from userservice.users.links import Purpose
from userservice.users.queries import users

pytestmark = pytest.mark.integration


@pytest.fixture
def user(services):
    return make_user(services.database)


def make(services, user, purpose=Purpose.RESET, made_at=None):
    return links.make_link(services, purpose, user.id, made_at or datetime.now(UTC))[1]


def change(services, user, **values):
    with services.database.connection() as connection:
        connection.execute(update(users).where(users.c.id == user.id).values(values))


def test_a_link_is_the_same_at_each_try(services, user):
    at = datetime.now(UTC)

    assert make(services, user, made_at=at) == make(services, user, made_at=at)


def test_a_link_holds_for_its_purpose_alone(services, user):
    token = make(services, user)

    link, holder = links.check_link(services, token, Purpose.RESET, Purpose.PRINTED)

    assert (link.purpose, holder.id, holder.email) == (Purpose.RESET, user.id, user.email)
    with pytest.raises(InvalidLink):
        links.check_link(services, token, Purpose.INVITATION, Purpose.PRINTED)


def test_a_link_is_spent_once(services, user):
    _, holder = links.check_link(services, make(services, user), Purpose.RESET)

    with services.database.transaction() as connection:
        spent = [links.spend(connection, holder, {"password_hash": "x"}) for _ in range(3)]

    assert spent == [True, False, False]


@pytest.mark.parametrize(
    "values",
    [
        {"email": "bob@example.com"},
        {"stamp": "0" * 32},
        {"stamp": None},
        {"suspended_at": datetime.now(UTC)},
        {"status": "deleted"},
    ],
    ids="-".join,
)
def test_a_change_by_anybody_voids_links(services, user, values):
    token = make(services, user)
    _, holder = links.check_link(services, token, Purpose.RESET)

    change(services, user, **values)

    with pytest.raises(InvalidLink):
        links.check_link(services, token, Purpose.RESET)
    with services.database.transaction() as connection:
        assert not links.spend(connection, holder, {"password_hash": "x"})


def test_an_address_there_and_back_voids_links(services, user):
    token = make(services, user)

    for email in ("bob@example.com", user.email):
        _, holder = links.check_link(services, make(services, user), Purpose.RESET)
        with services.database.transaction() as connection:
            links.spend(connection, holder, {"email": email, **service.key_columns(email)})

    with pytest.raises(InvalidLink):
        links.check_link(services, token, Purpose.RESET)


def test_a_pending_address_has_links_of_its_own(services, user):
    with pytest.raises(Undeliverable):
        make(services, user, Purpose.CHANGE)
    change(services, user, pending_email="new@example.com")
    token = make(services, user, Purpose.CHANGE)

    assert links.check_link(services, token, Purpose.CHANGE)[1].pending_email == "new@example.com"
    change(services, user, pending_email="newer@example.com")
    with pytest.raises(InvalidLink):
        links.check_link(services, token, Purpose.CHANGE)


def test_expired_links_are_not_made(services, user):
    with pytest.raises(Undeliverable):
        make(services, user, made_at=datetime.now(UTC) - timedelta(hours=2))


def test_there_is_no_link_for_nobody(services):
    with pytest.raises(Undeliverable):
        links.make_link(services, Purpose.RESET, uuid7(), datetime.now(UTC))


def test_a_spent_link_moves_the_version_only_with_the_document(services, user):
    for values, moved in (({"password_hash": "x"}, 0), ({"name": "Eve"}, 1)):
        _, holder = links.check_link(services, make(services, user), Purpose.RESET)
        before = service.get_user(services.database, user.id).version
        with services.database.transaction() as connection:
            links.spend(connection, holder, values)
        assert service.get_user(services.database, user.id).version == before + moved
