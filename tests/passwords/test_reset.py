"""A new password by a link: once, in order, and with all log-ins ended."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from chassis.errors import Unavailable, Undeliverable
from chassis.links import InvalidLink
from chassis.storage.ids import uuid7
from tests.support.factories import begin_log_in, make_user
from tests.support.passwords import (
    LINKED,
    MAILED,
    NEW,
    OLD,
    change,
    holds,
    log_in,
    make_token,
    reset,
    row_of,
    topics,
    write,
)
from userservice.passwords import recovery
from userservice.passwords.errors import GuessablePassword
from userservice.standing import service as standing
from userservice.users import links
from userservice.users import service as users_service
from userservice.users.addresses import mailbox_key
from userservice.users.errors import UserSuspended
from userservice.users.links import Purpose
from userservice.users.schemas import UserUpdate

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("purpose", LINKED)
def test_a_reset_ends_all_log_ins(services, config, user, purpose):
    pairs = [begin_log_in(services.database, config, user) for _ in range(2)]

    reset(services, make_token(services, user, purpose))

    assert not any(holds(services, config, pair) for pair in pairs)
    log_in(services, config, user, NEW)


@pytest.mark.parametrize("purpose", LINKED)
def test_a_link_works_once(services, user, purpose):
    token = make_token(services, user, purpose)
    reset(services, token)

    with pytest.raises(InvalidLink):
        reset(services, token)


@pytest.mark.parametrize("purpose", MAILED)
def test_a_mailed_link_verifies_its_address(services, user, purpose):
    token = make_token(services, user, purpose)

    reset(services, token)

    assert row_of(services, user).verified_key == mailbox_key(user.email)
    assert links.check_link(services, make_token(services, user), Purpose.RESET)[1].is_verified


def test_a_printed_link_verifies_nothing(services, user):
    reset(services, make_token(services, user, Purpose.PRINTED))

    assert row_of(services, user).verified_key is None


@pytest.mark.parametrize("purpose", [Purpose.VERIFICATION, Purpose.CHANGE])
def test_a_link_of_another_purpose_sets_no_password(services, user, purpose):
    write(services, user, pending_email="new@example.com")

    with pytest.raises(InvalidLink):
        reset(services, make_token(services, user, purpose))


def test_a_weak_password_does_not_spend_the_link(counting, user):
    token = make_token(counting, user)

    for weak in ("password123", user.email, f"{user.name}1!"):
        with pytest.raises(GuessablePassword):
            reset(counting, token, weak)

    assert counting.hasher.hashed == 0
    reset(counting, token)


def test_no_room_for_a_hash_does_not_spend_the_link(counting, user):
    token = make_token(counting, user)
    counting.hasher.is_full = True
    with pytest.raises(Unavailable):
        reset(counting, token)
    counting.hasher.is_full = False

    reset(counting, token)

    assert counting.hasher.hashed == 1


def test_nothing_is_hashed_for_a_token_that_does_not_hold(counting, user):
    token = make_token(counting, user)
    reset(counting, token)
    late = make_token(counting, user)
    write(counting, user, suspended_at=datetime.now(UTC))

    for dead in (token, late, "garbled", f"{late}x", late.replace(user.id.hex, uuid7().hex)):
        with pytest.raises(InvalidLink):
            reset(counting, dead)

    assert (counting.hasher.hashed, counting.hasher.verified) == (1, 0)


def test_the_token_is_looked_at_before_the_password(services):
    with pytest.raises(InvalidLink):
        reset(services, "garbled", "password123")


def test_a_reset_there_and_back_leaves_no_link(services, user):
    first, second = make_token(services, user), make_token(services, user, Purpose.PRINTED)

    reset(services, first, NEW)
    change(services, user, NEW, OLD)

    for token in (first, second):
        with pytest.raises(InvalidLink):
            reset(services, token)


def test_twenty_equal_resets_at_once_succeed_once(services, user):
    token = make_token(services, user)
    ready, refused = threading.Barrier(20), []

    def work():
        ready.wait()
        try:
            reset(services, token)
        except (InvalidLink, Unavailable) as error:
            refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(refused) == 19
    assert topics(services).count("user.password_changed") == 1


def test_a_user_without_a_password_gets_one_by_an_invitation(services, config):
    user = make_user(services.database)

    reset(services, make_token(services, user, Purpose.INVITATION))

    log_in(services, config, user, NEW)


def to_and_fro(services, user):
    """Change an address, and change it back, as an administrator does."""
    for email in ("elsewhere@example.com", user.email):
        users_service.update_user(services.database, user.id, UserUpdate(email=email))


def suspend_and_reinstate(services, user):
    standing.suspend(services.database, user.id)
    standing.reinstate(services.database, user.id)


@pytest.mark.parametrize("change_twice", [to_and_fro, suspend_and_reinstate])
def test_a_change_there_and_back_leaves_no_link(services, user, change_twice):
    token = make_token(services, user)

    change_twice(services, user)

    with pytest.raises(InvalidLink):
        reset(services, token)
    reset(services, make_token(services, user))


def test_a_suspended_user_gets_no_link_by_email_or_paper(services, user):
    standing.suspend(services.database, user.id)

    with pytest.raises(Undeliverable):
        make_token(services, user)
    with pytest.raises(UserSuspended):
        recovery.make_printed_link(services, user.id)
