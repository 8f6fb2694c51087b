"""New passwords and links for operators."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.errors import InvalidRequest
from chassis.links import InvalidLink, Links
from chassis.storage.ids import uuid7
from tests.support.factories import begin_log_in
from tests.support.passwords import (
    NEW,
    CountingHasher,
    holds,
    log_in,
    make_token,
    reset,
    row_of,
    write,
)
from userservice.passwords import recovery, service
from userservice.users import links
from userservice.users.errors import UserNotFound, UserSuspended

PAGE = "https://accounts.example/account"
LIFETIMES = links.lifetimes(reset_seconds=60, invite_seconds=60, email_seconds=60)

pytestmark = pytest.mark.integration


def test_an_operator_sets_a_password_and_ends_all_log_ins(services, config, user):
    pair = begin_log_in(services.database, config, user)

    service.set_password(services, user.id, NEW)

    assert not holds(services, config, pair)
    log_in(services, config, user, NEW)
    assert row_of(services, user).verified_key is None


@pytest.mark.parametrize("weak", ["short", "password123", "x" * 129])
def test_an_operator_sets_no_weak_password(counting, user, weak):
    with pytest.raises(InvalidRequest):
        service.set_password(counting, user.id, weak)

    assert counting.hasher.hashed == 0


def test_nobody_sets_a_password_for_who_is_gone_or_suspended(services, user):
    with pytest.raises(UserNotFound):
        service.set_password(services, uuid7(), NEW)
    write(services, user, suspended_at=datetime.now(UTC))
    for work in (
        lambda: service.set_password(services, user.id, NEW),
        lambda: recovery.recover(services, user.id),
        lambda: recovery.make_printed_link(services, user.id),
    ):
        with pytest.raises(UserSuspended):
            work()


def test_a_link_is_printed_where_none_may_be_mailed(services, config, user):
    unmailed = Links(config.jwt_secret, page=PAGE, lifetimes=LIFETIMES, unmailed="Not encrypted")

    address = recovery.make_printed_link(replace(services, links=unmailed), user.id)

    assert address.startswith(f"{PAGE}#printed.")


def test_a_printed_link_leads_to_the_page(services, config, user):
    address = recovery.make_printed_link(services, user.id)

    page, _, token = address.partition("#")
    assert page == "http://localhost:8080/account"
    reset(services, token)
    log_in(services, config, user, NEW)


def test_a_user_suspended_while_a_password_is_hashed_gets_none(services, user):
    class Meanwhile(CountingHasher):
        def hash(self, password):
            write(services, user, suspended_at=datetime.now(UTC))
            return super().hash(password)

    suspending = replace(services, hasher=Meanwhile())
    token = make_token(services, user)

    with pytest.raises(InvalidLink):
        reset(suspending, token)
    write(services, user, suspended_at=None)
    with pytest.raises(UserSuspended):
        service.set_password(suspending, user.id, NEW)

    assert row_of(services, user).password_changed_at is None


def test_what_is_ended_is_counted_with_its_reason(services, config, user, caplog):
    caplog.set_level("INFO")
    begin_log_in(services.database, config, user)

    reset(services, make_token(services, user))

    told = {each.message: each.__dict__ for each in caplog.records}
    assert told["Password set"]["way"] == "reset"
    assert told["Sessions ended"]["reason"] == "password"
    assert user.email not in caplog.text
