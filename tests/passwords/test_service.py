"""The rules of new passwords: what they end, what they void, and what they tell."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from app import make_token_issuer
from chassis.background import outbox
from chassis.errors import InvalidRequest, Unavailable
from chassis.links import InvalidLink
from chassis.security import PasswordHasher
from chassis.storage.ids import uuid7
from tests.support.factories import begin_log_in, make_user
from userservice.passwords import recovery, service
from userservice.passwords.errors import GuessablePassword
from userservice.passwords.schemas import PasswordChange, PasswordReset
from userservice.tokens import service as tokens
from userservice.tokens.errors import InvalidGrant
from userservice.tokens.service import PasswordGrant
from userservice.users import credentials, links
from userservice.users import service as users_service
from userservice.users.addresses import mailbox_key
from userservice.users.errors import UserNotFound, UserSuspended, WrongPassword
from userservice.users.links import Purpose
from userservice.users.queries import users

pytestmark = pytest.mark.integration

OLD = "correct horse battery"
NEW = "another sentence of length"
MAILED = (Purpose.RESET, Purpose.INVITATION)
LINKED = (*MAILED, Purpose.PRINTED)


class CountingHasher(PasswordHasher):
    """A cheap hasher that counts its work, and can be told that it is full."""

    def __init__(self):
        super().__init__(memory_kib=8, time_cost=1)
        self.hashed = self.verified = 0
        self.is_full = False

    def hash(self, password):
        if self.is_full:
            raise Unavailable
        self.hashed += 1
        return super().hash(password)

    def verify(self, password_hash, password):
        self.verified += 1
        return super().verify(password_hash, password)


@pytest.fixture
def counting(services):
    return replace(services, hasher=CountingHasher())


@pytest.fixture
def user(database):
    return make_user(database, password=OLD)


def row_of(services, user):
    with services.database.connection() as connection:
        return connection.execute(select(users).where(users.c.id == user.id)).one()


def write(services, user, **values):
    with services.database.connection() as connection:
        connection.execute(users.update().where(users.c.id == user.id).values(values))


def topics(services):
    with services.database.connection() as connection:
        return sorted(connection.scalars(select(outbox.messages.c.topic)))


def make_token(services, user, purpose=Purpose.RESET):
    return links.make_link(services, purpose, user.id, datetime.now(UTC))[1]


def change(services, user, current=OLD, new=NEW, keep=None):
    document = PasswordChange.load_values({"current_password": current, "new_password": new})
    service.change_password(services, user.id, document, keep=keep)


def reset(services, token, new=NEW):
    service.reset_password(
        services, PasswordReset.load_values({"token": token, "new_password": new})
    )


def log_in(services, config, user, password):
    grant = PasswordGrant(user.email, password)
    return tokens.log_in(services.database, services.hasher, make_token_issuer(config), grant)


def holds(services, config, pair):
    claims = make_token_issuer(config).access_tokens.read(pair.access_token)
    return credentials.find_is_superuser(services.database, claims) is not None


def session_of(config, pair):
    return make_token_issuer(config).access_tokens.read(pair.access_token).session_id


# A change.


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


# A reset.


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


# An operator.


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
