from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from app import make_token_issuer
from chassis.errors import Unavailable
from chassis.security import PasswordHasher, fingerprint
from chassis.storage.clock import database_time
from chassis.storage.ids import uuid7
from config import AppConfig
from tests.support.factories import CHEAP_HASHER, make_user
from userservice.logins import queries
from userservice.tokens import service
from userservice.tokens.errors import InvalidGrant
from userservice.tokens.service import PasswordGrant
from userservice.users import credentials
from userservice.users import service as users
from userservice.users.models import User

PASSWORD = "correct horse battery"
HOLDS = timedelta(seconds=AppConfig().refresh_token_seconds)


@pytest.fixture
def issuer():
    return make_token_issuer(AppConfig())


@pytest.fixture
def user(database):
    return make_user(database, password=PASSWORD)


@pytest.fixture
def pair(database, issuer, user):
    """The tokens from the user's log-in."""
    return log_in(database, issuer, user)


def log_in(database, issuer, user, hasher=CHEAP_HASHER):
    return service.log_in(database, hasher, issuer, PasswordGrant(user.email, PASSWORD))


def stored_tokens(database):
    with database.connection() as connection:
        return connection.execute(select(queries.tokens)).all()


def stored_hash(database, user):
    with database.connection() as connection:
        statement = select(User.__table__.c.password_hash).where(User.__table__.c.id == user.id)
        return connection.scalar(statement)


def fail(*_arguments, **_options):
    raise Unavailable


def is_accepted(database, issuer, refresh_token):
    try:
        service.refresh(database, issuer, refresh_token)
    except InvalidGrant:
        return False
    return True


def age_spendings(database):
    """Let all that is spent be spent a second longer ago than a lost answer is repeated."""
    age = timedelta(seconds=AppConfig().refresh_reuse_seconds + 1)
    spent = queries.tokens.c.spent_at.is_not(None)
    with database.connection() as connection:
        statement = update(queries.tokens).where(spent)
        connection.execute(statement.values(spent_at=database_time(-age)))


def test_a_log_in_returns_an_access_token_that_names_the_user(issuer, user, pair):
    assert issuer.access_tokens.read(pair.access_token).subject == user.id


def test_an_address_logs_in_in_any_case_and_with_blanks_around_it(database, issuer, user):
    email = f"  {user.email.upper()} "

    pair = service.log_in(database, CHEAP_HASHER, issuer, PasswordGrant(email, PASSWORD))

    assert issuer.access_tokens.read(pair.access_token).subject == user.id


def test_refresh_tokens_are_stored_as_hashes(database, pair):
    [row] = stored_tokens(database)

    assert row.token_hash == fingerprint(pair.refresh_token.encode())
    assert pair.refresh_token not in repr(row)


def test_a_refresh_token_is_spent_when_it_is_used(database, issuer, pair):
    renewed = service.refresh(database, issuer, pair.refresh_token)

    assert renewed.refresh_token != pair.refresh_token
    assert is_accepted(database, issuer, renewed.refresh_token)


def test_a_spent_token_that_comes_back_ends_its_whole_family(database, issuer, pair):
    second = service.refresh(database, issuer, pair.refresh_token)
    third = service.refresh(database, issuer, second.refresh_token)

    assert not is_accepted(database, issuer, pair.refresh_token)
    assert not is_accepted(database, issuer, third.refresh_token)
    assert stored_tokens(database) == []


def test_a_spent_token_outlasts_the_cleanup_and_still_ends_its_family(database, issuer, pair):
    renewed = service.refresh(database, issuer, pair.refresh_token)
    age_spendings(database)

    purged = sum(service.purge_expired_tokens(database))

    assert purged == 0
    assert not is_accepted(database, issuer, pair.refresh_token)
    assert not is_accepted(database, issuer, renewed.refresh_token)


def test_expired_tokens_are_purged_in_batches(database, user):
    row = {"user_id": user.id, "expires_at": datetime.now(UTC) - HOLDS}
    rows = [row | {"token_hash": str(n), "family_id": uuid7()} for n in range(1001)]
    with database.transaction() as connection:
        connection.execute(insert(queries.tokens), rows)

    assert list(service.purge_expired_tokens(database)) == [1000, 1]
    assert stored_tokens(database) == []


def test_a_refresh_that_fails_spends_nothing(database, issuer, pair, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(queries, "insert_token", fail)
        with pytest.raises(Unavailable):
            service.refresh(database, issuer, pair.refresh_token)

    assert is_accepted(database, issuer, pair.refresh_token)


def test_a_family_that_ends_leaves_other_log_ins_alone(database, issuer, user, pair):
    elsewhere = log_in(database, issuer, user)
    service.refresh(database, issuer, pair.refresh_token)

    service.revoke(database, pair.refresh_token)

    assert is_accepted(database, issuer, elsewhere.refresh_token)


def test_an_expired_refresh_token_is_refused(database, issuer, pair):
    with database.connection() as connection:
        connection.execute(update(queries.tokens).values(expires_at=database_time()))

    assert not is_accepted(database, issuer, pair.refresh_token)


def test_a_refresh_token_holds_as_long_as_configured(database, user):
    issuer = make_token_issuer(AppConfig(refresh_token_seconds=3600))
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # as exact as SQLite's clock

    log_in(database, issuer, user)

    [row] = stored_tokens(database)
    hour = timedelta(hours=1)
    assert before + hour <= row.expires_at <= datetime.now(UTC) + hour


@pytest.mark.parametrize("days", [31, -31])
def test_a_log_in_holds_whatever_the_clock_of_the_host(database, user, monkeypatch, days):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    for module in (service, queries):
        monkeypatch.setattr(module, "datetime", Clock, raising=False)
    elsewhere = log_in(database, make_token_issuer(AppConfig()), user)
    monkeypatch.undo()

    assert service.count_expired_tokens(database) == 0
    assert sum(service.purge_expired_tokens(database)) == 0
    assert is_accepted(database, make_token_issuer(AppConfig()), elsewhere.refresh_token)
    assert all(row.expires_at < datetime.now(UTC) + 2 * HOLDS for row in stored_tokens(database))


def test_a_deleted_user_gets_no_more_tokens(database, issuer, user, pair):
    users.delete_user(database, user.id)

    assert not is_accepted(database, issuer, pair.refresh_token)
    assert stored_tokens(database) == []
    with pytest.raises(InvalidGrant):
        log_in(database, issuer, user)


def test_a_revoked_token_ends_with_those_that_stem_from_it(database, issuer, pair):
    renewed = service.refresh(database, issuer, pair.refresh_token)

    service.revoke(database, renewed.refresh_token)

    assert stored_tokens(database) == []


def test_revoking_an_unknown_token_changes_nothing(database, issuer, pair):
    service.revoke(database, "unknown")

    assert is_accepted(database, issuer, pair.refresh_token)


def test_a_hash_is_renewed_at_the_log_in_when_its_parameters_changed(database, issuer, user):
    stronger = PasswordHasher(memory_kib=16, time_cost=1)
    old = stored_hash(database, user)

    log_in(database, issuer, user, stronger)

    new = stored_hash(database, user)
    assert "$m=8,t=1," in old
    assert "$m=16,t=1," in new
    assert stronger.verify(new, PASSWORD)


def test_a_log_in_during_which_another_renewed_the_hash_is_verified_again(
    database, issuer, user, monkeypatch
):
    stronger = PasswordHasher(memory_kib=16, time_cost=1)
    verify = stronger.verify
    seen = []

    def verify_beside_another(known_hash, password):
        seen.append(known_hash)
        if len(seen) == 1:
            new_hash = stronger.hash(PASSWORD)
            credentials.store_password_hash(database, user.id, known_hash, new_hash)
        return verify(known_hash, password)

    monkeypatch.setattr(stronger, "verify", verify_beside_another)

    pair = log_in(database, issuer, user, stronger)

    assert is_accepted(database, issuer, pair.refresh_token)
    assert seen[1:] == [stored_hash(database, user)]


def test_a_hash_stays_while_its_parameters_do(database, issuer, user):
    before = stored_hash(database, user)

    log_in(database, issuer, user)

    assert stored_hash(database, user) == before


def test_a_hash_stays_when_the_password_was_wrong(database, issuer, user):
    before = stored_hash(database, user)

    with pytest.raises(InvalidGrant):
        service.log_in(
            database,
            PasswordHasher(memory_kib=16, time_cost=1),
            issuer,
            PasswordGrant(user.email, "another one"),
        )

    assert stored_hash(database, user) == before


def test_a_new_hash_does_not_undo_a_password_that_changed_meanwhile(database, user):
    old = stored_hash(database, user)
    credentials.store_password_hash(database, user.id, old, "changed")

    is_stored = credentials.store_password_hash(database, user.id, old, "late")

    assert not is_stored
    assert stored_hash(database, user) == "changed"


@pytest.mark.parametrize("known", ["address", "nothing", "address without password"])
def test_a_hash_is_verified_whether_or_not_there_is_one(database, issuer, user, known, monkeypatch):
    """Time would tell who has an account; what costs it is counted instead."""
    hasher = PasswordHasher(memory_kib=8, time_cost=1)
    hasher.verify(None, "warm")
    verified = []
    argon2 = type(hasher._argon2)  # noqa: SLF001 - counted in the library, below our code
    original = argon2.verify

    def verify(self, *arguments):
        verified.append(arguments)
        return original(self, *arguments)

    monkeypatch.setattr(argon2, "verify", verify)
    email = {"address": user.email, "nothing": "nobody@example.com"}.get(known)
    email = email or make_user(database).email

    with pytest.raises(InvalidGrant) as refused:
        service.log_in(database, hasher, issuer, PasswordGrant(email, "another one"))

    assert len(verified) == 1
    assert str(refused.value) == "The credentials are not valid"


def test_passwords_that_would_exhaust_memory_wait_and_then_are_told_to_come_back(database, issuer):
    hasher = PasswordHasher(
        memory_kib=8, time_cost=1, parallel=1, patience=timedelta(milliseconds=10)
    )

    with hasher._slot(), pytest.raises(Unavailable):  # noqa: SLF001 - another log-in
        service.log_in(database, hasher, issuer, PasswordGrant("a@example.com", PASSWORD))


def test_a_slot_is_free_again_when_a_hash_is_done():
    hasher = PasswordHasher(
        memory_kib=8, time_cost=1, parallel=1, patience=timedelta(milliseconds=10)
    )

    answers = [hasher.verify("no hash at all", "password") for _ in range(3)]

    assert answers == [False] * 3
    assert hasher.verify(hasher.hash("password"), "password")


def test_a_token_pair_is_not_printed_by_the_issuer(issuer):
    secret = "a-secret-that-is-not-printed-anywhere"
    issuer = replace(issuer, access_tokens=make_token_issuer(AppConfig(jwt_secret=secret)))

    assert secret not in repr(issuer)
