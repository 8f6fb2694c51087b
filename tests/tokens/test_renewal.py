"""A refresh whose answer was lost, and what is no such thing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
import requests
from sqlalchemy import select, update

from app import make_token_issuer
from chassis.security import fingerprint
from chassis.signatures import SuccessorTokens
from chassis.storage.clock import database_time
from config import AppConfig
from tests.conftest import API_KEY
from tests.support.factories import begin_log_in, make_user
from tests.support.waiting import ANSWER_SECONDS
from tests.support.web import serve as serve_web
from userservice.logins import queries
from userservice.tokens import service
from userservice.tokens.errors import InvalidGrant

CONFIG = AppConfig()
OTHER_SECRET = "another secret, of at least 32 bytes"
REFRESHES = 20


@pytest.fixture
def issuer():
    return make_token_issuer(CONFIG)


@pytest.fixture
def pair(database):
    """The tokens from a user's log-in."""
    return begin_log_in(database, CONFIG, make_user(database))


def refresh(database, issuer, pair):
    return service.refresh(database, issuer, pair.refresh_token)


def is_refused(database, issuer, pair):
    try:
        refresh(database, issuer, pair)
    except InvalidGrant:
        return True
    return False


def row_of(database, pair):
    token_hash = fingerprint(pair.refresh_token.encode())
    with database.connection() as connection:
        statement = select(queries.tokens).where(queries.tokens.c.token_hash == token_hash)
        return connection.execute(statement).first()


def change(database, pair, **values):
    token_hash = fingerprint(pair.refresh_token.encode())
    with database.connection() as connection:
        statement = update(queries.tokens).where(queries.tokens.c.token_hash == token_hash)
        connection.execute(statement.values(values))


def together(work, number):
    """Call something as often as that at the same time; return the results."""
    barrier = threading.Barrier(number)

    def call(index):
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(call, range(number)))


def test_a_refresh_whose_answer_was_lost_brings_the_same_refresh_token_again(
    database, issuer, pair
):
    lost = refresh(database, issuer, pair)

    again = [refresh(database, issuer, pair) for _ in range(3)]

    assert {each.refresh_token for each in again} == {lost.refresh_token}
    assert lost.refresh_token != pair.refresh_token
    assert len({lost.access_token, *(each.access_token for each in again)}) == 4


def test_a_repeated_refresh_does_not_make_the_log_in_last_longer(database, issuer, pair):
    renewed = refresh(database, issuer, pair)
    before = row_of(database, renewed)

    refresh(database, issuer, pair)

    assert row_of(database, renewed) == before


@pytest.mark.parametrize(("age", "is_repeated"), [(9, True), (11, False)])
def test_ten_seconds_after_a_spending_the_log_in_ends(database, issuer, pair, age, is_repeated):
    renewed = refresh(database, issuer, pair)
    change(database, pair, spent_at=database_time(-timedelta(seconds=age)))

    assert is_refused(database, issuer, pair) is not is_repeated
    assert is_refused(database, issuer, renewed) is not is_repeated


def test_a_token_whose_successor_is_spent_ends_the_log_in(database, issuer, pair):
    second = refresh(database, issuer, pair)
    third = refresh(database, issuer, second)

    assert is_refused(database, issuer, pair)
    assert is_refused(database, issuer, third)


def test_a_token_that_was_spent_without_a_salt_ends_the_log_in(database, issuer, pair):
    """The release before stores none."""
    renewed = refresh(database, issuer, pair)
    change(database, pair, salt=None)

    assert is_refused(database, issuer, pair)
    assert is_refused(database, issuer, renewed)


def test_a_changed_secret_refuses_the_repetition_and_ends_nothing(database, issuer, pair):
    renewed = refresh(database, issuer, pair)
    changed = make_token_issuer(replace(CONFIG, jwt_secret=OTHER_SECRET))

    assert is_refused(database, changed, pair)

    assert not is_refused(database, changed, renewed)


def test_repetitions_can_be_switched_off(database, pair):
    issuer = make_token_issuer(replace(CONFIG, refresh_reuse_seconds=0))
    renewed = refresh(database, issuer, pair)

    assert is_refused(database, issuer, pair)
    assert is_refused(database, issuer, renewed)


def test_switched_off_means_also_for_a_transaction_that_began_before_the_spending(database, pair):
    issuer = make_token_issuer(replace(CONFIG, refresh_reuse_seconds=0))
    refresh(database, issuer, pair)
    change(database, pair, spent_at=database_time(timedelta(seconds=5)))

    assert is_refused(database, issuer, pair)


def test_of_refreshes_that_race_one_wins_and_the_family_ends_without_repetitions(database, pair):
    issuer = make_token_issuer(replace(CONFIG, refresh_reuse_seconds=0))
    won = []

    def attempt(_index):
        try:
            won.append(refresh(database, issuer, pair))
        except InvalidGrant:
            return False
        return True

    assert sorted(together(attempt, 8)) == [False] * 7 + [True]
    assert is_refused(database, issuer, won[0])


def test_an_expired_token_is_refused_and_tells_of_no_thief(database, issuer, pair, caplog):
    change(database, pair, expires_at=database_time())

    assert is_refused(database, issuer, pair)
    assert "Refresh token family revoked" not in caplog.messages


def test_thief_and_owner_who_both_renew_are_parted_when_the_moment_is_over(database, issuer, pair):
    """Within the moment both get one token; whoever comes later with a spent one ends it all."""
    owner, thief = (refresh(database, issuer, pair) for _ in range(2))
    owner = refresh(database, issuer, owner)
    change(database, thief, spent_at=database_time(-timedelta(seconds=11)))

    assert is_refused(database, issuer, thief)
    assert is_refused(database, issuer, owner)


@pytest.mark.parametrize(
    "other",
    [("T", "secret", "b" * 32), ("T", "Secret", "a" * 32), ("t", "secret", "a" * 32)],
    ids=["salt", "secret", "token"],
)
def test_a_successor_needs_the_secret_the_token_and_the_salt(other):
    token, secret, salt = other

    one = SuccessorTokens("secret").after("T", "a" * 32)

    assert one == SuccessorTokens("secret").after("T", "a" * 32)
    assert one != SuccessorTokens(secret).after(token, salt)
    assert len(one) == 43


def test_a_salt_is_stored_with_the_spent_token_and_never_twice(database, issuer, pair):
    second = refresh(database, issuer, pair)
    refresh(database, issuer, second)

    salts = {row_of(database, each).salt for each in (pair, second)}

    assert len(salts) == 2
    assert all(len(salt) == 32 for salt in salts)


@pytest.mark.integration
def test_twenty_equal_refreshes_over_two_processes_get_one_and_the_same_refresh_token(
    database, database_url, pair
):
    form = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
    variables = {"DATABASE_URL": database_url, "API_KEY": API_KEY, "WEB_CONCURRENCY": "1"}
    with ExitStack() as running:
        webs = [running.enter_context(serve_web(**variables)) for _ in range(2)]

        def ask(index):
            url = f"{webs[index % 2].url}/auth/token"
            return requests.post(url, data=form, timeout=ANSWER_SECONDS)

        answers = together(ask, REFRESHES)

    assert [each.status_code for each in answers] == [200] * REFRESHES
    assert len({each.json()["refresh_token"] for each in answers}) == 1
    with database.connection() as connection:
        unspent = select(queries.tokens.c.family_id).where(queries.UNSPENT)
        assert len(connection.execute(unspent).all()) == 1
