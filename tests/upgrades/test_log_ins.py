"""Log-ins during a rollout and after a rollback: both releases renew and end those of the other."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from app import make_token_issuer
from chassis.security import fingerprint, random_token
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from config import AppConfig
from tests.support.factories import begin_log_in, make_user
from userservice.logins import queries
from userservice.sessions import service as sessions
from userservice.tokens import service
from userservice.tokens.errors import InvalidGrant
from userservice.users import credentials

pytestmark = pytest.mark.integration

CONFIG = AppConfig()
FILE = Path(__file__).resolve().parent / "0006.sql"
LITERAL = re.compile(r"'[0-9a-f-]{36}'|'[0-9a-f]{64}'")


@pytest.fixture
def database(postgresql_url):
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        yield manager


@pytest.fixture
def user(database):
    return make_user(database)


def do_as_before(database, beginning, *values):
    """Send the first recorded statement that begins so, with other hashes and ids, in order."""
    recorded = next(
        line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith(beginning)
    )
    given = iter(values)
    statement = LITERAL.sub(lambda _: f"'{next(given)}'", recorded).rstrip(";")
    with database.connection() as connection:
        return connection.exec_driver_sql(statement).rowcount


def log_in_as_before(database, user):
    """Store a log-in as the release before does; return its token and its id."""
    token, family_id = random_token(), uuid7()
    add_as_before(database, token, family_id, user)
    return token, family_id


def add_as_before(database, token, family_id, user):
    token_hash = fingerprint(token.encode())
    do_as_before(database, "INSERT INTO refresh_tokens", token_hash, family_id, user.id)


def renew_as_before(database, token, family_id, user):
    """Renew a log-in as the release before does; return the new token."""
    spent = do_as_before(database, "UPDATE refresh_tokens", fingerprint(token.encode()))
    assert spent == 1
    new = random_token()
    add_as_before(database, new, family_id, user)
    return new


def holds(database, access_token):
    claims = make_token_issuer(CONFIG).access_tokens.read(access_token)
    return credentials.find_is_superuser(database, claims) is False


def refresh(database, token):
    return service.refresh(database, make_token_issuer(CONFIG), token)


def test_a_log_in_of_the_release_before_is_renewed_seen_and_ended(database, user):
    token, family_id = log_in_as_before(database, user)

    pair = refresh(database, token)
    [session] = sessions.list_sessions(database, user.id)
    held = holds(database, pair.access_token)
    sessions.end_session(database, user.id, family_id)

    assert (session.id, session.label, held) == (family_id, None, True)
    assert session.refreshed_at is not None
    assert not holds(database, pair.access_token)


def test_the_release_before_renews_a_log_in_of_ours_which_goes_on(database, user):
    pair = begin_log_in(database, CONFIG, user, "Firefox on Linux")
    [session] = sessions.list_sessions(database, user.id)

    old = renew_as_before(database, pair.refresh_token, session.id, user)

    [renewed] = sessions.list_sessions(database, user.id)
    assert (renewed.id, renewed.label, renewed.refreshed_at) == (session.id, None, None)
    assert holds(database, pair.access_token)
    assert holds(database, refresh(database, old).access_token)


def test_a_token_that_the_release_before_spent_is_not_repeated(database, user):
    pair = begin_log_in(database, CONFIG, user)
    [session] = sessions.list_sessions(database, user.id)
    renew_as_before(database, pair.refresh_token, session.id, user)

    with pytest.raises(InvalidGrant):
        refresh(database, pair.refresh_token)

    assert not holds(database, pair.access_token)


def test_the_release_before_ends_a_log_in_of_ours_with_its_access_token(database, user):
    pair = begin_log_in(database, CONFIG, user)
    [session] = sessions.list_sessions(database, user.id)

    do_as_before(database, "DELETE FROM refresh_tokens WHERE refresh_tokens.family", session.id)

    assert not holds(database, pair.access_token)


def test_the_release_before_renews_the_successor_of_a_token_of_ours(database, user):
    pair = refresh(database, begin_log_in(database, CONFIG, user).refresh_token)
    [session] = sessions.list_sessions(database, user.id)

    renew_as_before(database, pair.refresh_token, session.id, user)

    assert holds(database, pair.access_token)
    with database.connection() as connection:
        unspent = select(queries.tokens.c.token_hash).where(queries.UNSPENT)
        assert len(connection.execute(unspent).all()) == 1
