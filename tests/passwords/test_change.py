"""A change by the user who knows the present password, and what each new password ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app import make_token_issuer
from chassis.links import InvalidLink
from chassis.security import PasswordHasher
from tests.support.factories import begin_log_in, make_user
from tests.support.passwords import (
    LINKED,
    NEW,
    OLD,
    CountingHasher,
    change,
    holds,
    log_in,
    make_token,
    reset,
    row_of,
    session_of,
    topics,
    write,
)
from userservice.passwords import service
from userservice.standing.service import suspend
from userservice.tokens import service as tokens
from userservice.tokens.errors import InvalidGrant
from userservice.users import links
from userservice.users import service as users_service
from userservice.users.addresses import mailbox_key
from userservice.users.errors import WrongPassword
from userservice.users.links import Purpose

pytestmark = pytest.mark.integration


def test_a_change_replaces_the_password(services, config, user):
    change(services, user)

    log_in(services, config, user, NEW)
    with pytest.raises(InvalidGrant):
        log_in(services, config, user, OLD)
    assert row_of(services, user).password_changed_at is not None


def test_a_change_ends_the_users_other_log_ins(services, config, user):
    own, other = (begin_log_in(services.database, config, user) for _ in range(2))

    change(services, user, keep=session_of(config, own))

    assert holds(services, config, own)
    assert not holds(services, config, other)
    with pytest.raises(InvalidGrant):
        tokens.refresh(services.database, make_token_issuer(config), other.refresh_token)


def test_a_change_by_a_token_without_sid_ends_all_log_ins(services, config, user):
    pair = begin_log_in(services.database, config, user)

    change(services, user, keep=None)

    assert not holds(services, config, pair)
    assert row_of(services, user).sessions_ended_at is not None


@pytest.mark.parametrize("purpose", [*LINKED, Purpose.VERIFICATION, Purpose.CHANGE])
@pytest.mark.parametrize("way", ["change", "reset", "set"])
def test_a_new_password_voids_every_link_and_pending_change(services, user, purpose, way):
    write(services, user, pending_email="new@example.com")
    token = make_token(services, user, purpose)
    links.check_link(services, token, purpose)

    if way == "change":
        change(services, user)
    elif way == "reset":
        reset(services, make_token(services, user))
    else:
        service.set_password(services, user.id, NEW)

    assert row_of(services, user).pending_email is None
    write(services, user, pending_email="new@example.com")
    with pytest.raises(InvalidLink):
        links.check_link(services, token, purpose)


@pytest.mark.parametrize("current", [OLD, NEW])
def test_a_user_suspended_meanwhile_learns_of_no_more_than_a_wrong_password(
    services, user, current
):
    suspend(services.database, user.id)

    with pytest.raises(WrongPassword):
        change(services, user, current)

    assert not topics(services).count(service.PASSWORD_CHANGED)


def told(services):
    return topics(services).count(service.PASSWORD_CHANGED)


def test_a_stranger_is_not_told_of_each_change_back_and_forth(services, user):
    for current, new in ((OLD, NEW), (NEW, OLD), (OLD, NEW)):
        change(services, user, current, new)
    assert told(services) == 1

    write(services, user, password_changed_at=datetime.now(UTC) - service.QUIET)
    change(services, user, NEW, OLD)
    assert told(services) == 2


def test_the_owner_of_a_verified_address_is_told_of_each_change(services, user):
    write(services, user, verified_key=mailbox_key(user.email))

    for current, new in ((OLD, NEW), (NEW, OLD)):
        change(services, user, current, new)

    assert told(services) == 2


def test_a_reset_and_an_operator_are_told_in_any_case(services, user):
    change(services, user)
    reset(services, make_token(services, user), OLD)
    write(services, user, verified_key=None)
    service.set_password(services, user.id, NEW)

    assert told(services) == 3


def test_a_new_password_is_told_by_email(services, user):
    before = topics(services)

    change(services, user)
    reset(services, make_token(services, user))
    service.set_password(services, user.id, NEW)

    assert topics(services) == sorted([*before, *["user.password_changed"] * 3])


def test_a_change_verifies_once_and_hashes_once(counting, user):
    change(counting, user)

    assert (counting.hasher.verified, counting.hasher.hashed) == (1, 1)


def test_a_wrong_password_changes_nothing(counting, user):
    before = row_of(counting, user)

    with pytest.raises(WrongPassword):
        change(counting, user, current=NEW)

    assert row_of(counting, user) == before
    assert (counting.hasher.verified, counting.hasher.hashed) == (1, 0)


def test_without_a_password_none_is_right_and_one_is_verified(counting):
    user = make_user(counting.database)

    with pytest.raises(WrongPassword):
        change(counting, user)

    assert (counting.hasher.verified, counting.hasher.hashed) == (1, 0)


def test_a_change_goes_on_when_the_same_password_is_hashed_anew_meanwhile(services, config, user):
    """A log-in renews a hash of old parameters, which changes the hash and not the password."""

    class Meanwhile(CountingHasher):
        def verify(self, password_hash, password):
            is_right = super().verify(password_hash, password)
            if self.verified == 1:
                write(services, user, password_hash=PasswordHasher(memory_kib=16).hash(OLD))
            return is_right

    renewing = replace(services, hasher=Meanwhile())

    change(renewing, user)

    assert (renewing.hasher.verified, renewing.hasher.hashed) == (2, 1)
    log_in(services, config, user, NEW)


def test_the_version_of_the_user_stays_the_same(services, user):
    change(services, user)
    reset(services, make_token(services, user))
    service.set_password(services, user.id, NEW)

    assert users_service.get_user(services.database, user.id) == user
