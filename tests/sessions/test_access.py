"""An access token holds while its log-in lives."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest
from sqlalchemy import event, insert, update

from app import make_token_issuer
from chassis.signatures import AccessClaims
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from tests.conftest import API_KEY, make_app
from tests.support.factories import bearer_of, begin_log_in, make_user
from userservice.logins import queries
from userservice.sessions import service
from userservice.tokens.service import refresh, revoke
from userservice.users import credentials_queries
from userservice.users.models import User

SPENT = 3000
# Indexes without spent tokens.
UNSPENT = ("uq_refresh_tokens_family_id", "ix_refresh_tokens_unspent")


@pytest.fixture
def user(database):
    return make_user(database)


@pytest.fixture
def old_token(config, user):
    """Call that makes a token of the release before."""
    kid = jwt.get_unverified_header(
        make_token_issuer(config).access_tokens.issue(user.id, uuid4())
    )["kid"]

    def issue(issued_at):
        claims = {
            "iss": "cloudnative-user-api",
            "aud": "cloudnative-user-api",
            "sub": str(user.id),
            "iat": issued_at,
            "exp": datetime.now(UTC) + timedelta(minutes=5),
            "jti": uuid4().hex,
        }
        token = jwt.encode(claims, config.jwt_secret, "HS256", headers={"kid": kid})
        return {"Authorization": f"Bearer {token}"}

    return issue


def status(client, headers, path="/users/me"):
    return client.get(path, headers=headers).status_code


def mark_ended(database, user, moment):
    with database.connection() as connection:
        own = User.id == user.id
        connection.execute(update(User).where(own).values(sessions_ended_at=moment))


def test_a_session_that_ends_on_one_replica_has_ended_on_the_other(
    config, services, database, user
):
    one, other = (make_app(config, services).test_client() for _ in range(2))
    headers = bearer_of(database, config, user)
    [session] = one.get(f"/users/{user.id}/sessions", headers=headers).json["items"]

    before = status(other, headers)
    one.delete(f"/users/{user.id}/sessions/{session['id']}", headers=headers)

    assert (before, status(other, headers)) == (200, 401)


def test_the_access_token_of_before_a_refresh_holds_on(client, config, database, user):
    pair = begin_log_in(database, config, user)
    refresh(database, make_token_issuer(config), pair.refresh_token)

    assert status(client, {"Authorization": f"Bearer {pair.access_token}"}) == 200


def test_a_log_in_that_has_expired_takes_its_access_token_along(client, config, database, user):
    headers = bearer_of(database, config, user)
    with database.connection() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(queries.tokens).values(expires_at=past))

    assert status(client, headers) == 401


def test_the_log_in_of_another_does_not_hold_a_token_up(client, config, database, user):
    """Nothing of ours makes such a token; one that is signed must fit all the same."""
    other = begin_log_in(database, config, make_user(database))
    tokens = make_token_issuer(config).access_tokens
    session_id = tokens.read(other.access_token).session_id
    assert session_id is not None
    forged = tokens.issue(user.id, session_id)

    assert status(client, {"Authorization": f"Bearer {forged}"}) == 401


def test_a_token_without_sid_holds_as_before(client, old_token):
    assert status(client, old_token(datetime.now(UTC))) == 200


@pytest.mark.parametrize("ended_at", [-1.0, -0.001])
def test_a_token_without_sid_holds_if_it_is_of_a_later_second(
    client, database, user, old_token, ended_at
):
    issued_at = datetime.now(UTC).replace(microsecond=0)
    mark_ended(database, user, issued_at + timedelta(seconds=ended_at))

    assert status(client, old_token(issued_at)) == 200


@pytest.mark.parametrize("ended_at", [0.0, 0.999, 1.0])
def test_a_token_without_sid_of_the_second_of_the_end_or_before_has_ended(
    client, database, user, old_token, ended_at
):
    issued_at = datetime.now(UTC).replace(microsecond=0)
    mark_ended(database, user, issued_at + timedelta(seconds=ended_at))

    assert status(client, old_token(issued_at)) == 401


def test_ending_all_log_ins_ends_a_token_without_sid(client, database, user, old_token):
    token = old_token(datetime.now(UTC))

    service.end_sessions(database, user.id)

    assert status(client, token) == 401


def test_a_token_without_sid_that_keeps_the_current_one_ends_all(
    client, config, database, user, old_token
):
    """Nobody knows which log-in it belongs to."""
    other = bearer_of(database, config, user)
    token = old_token(datetime.now(UTC))

    ended = client.delete(f"/users/{user.id}/sessions?keep=current", headers=token)

    assert ended.status_code == 204
    assert (status(client, token), status(client, other)) == (401, 401)


def test_keeping_the_current_one_ends_tokens_without_sid(client, config, database, user, old_token):
    mine, token = bearer_of(database, config, user), old_token(datetime.now(UTC))

    client.delete(f"/users/{user.id}/sessions?keep=current", headers=mine)

    assert (status(client, mine), status(client, token)) == (200, 401)


def test_logging_out_leaves_a_token_without_sid_alone(client, config, database, user, old_token):
    token = old_token(datetime.now(UTC))

    revoke(database, begin_log_in(database, config, user).refresh_token)

    assert status(client, token) == 200


@pytest.mark.parametrize("sid", ["", "x", 7, None, ["a"], {}])
def test_a_sid_that_is_no_id_is_refused(client, config, user, sid):
    tokens = make_token_issuer(config).access_tokens
    signed = tokens.issue(user.id, uuid4())
    claims = jwt.decode(signed, options={"verify_signature": False}) | {"sid": sid}
    kid = {"kid": jwt.get_unverified_header(signed)["kid"]}
    token = jwt.encode(claims, config.jwt_secret, "HS256", headers=kid)

    assert status(client, {"Authorization": f"Bearer {token}"}) == 401


@pytest.fixture
def callers(config, database, user, old_token):
    """Caller -> headers, and the number of statements in which that caller reads the user."""
    return {
        "key": ({"X-API-Key": API_KEY}, 1),
        "token": (bearer_of(database, config, user), 2),
        "token without sid": (old_token(datetime.now(UTC)), 2),
    }


@pytest.mark.parametrize("caller", ["key", "token", "token without sid"])
def test_a_user_is_read_with_as_many_statements_as_before(client, services, user, callers, caller):
    headers, number = callers[caller]
    status(client, headers, f"/users/{user.id}")  # opens the connection
    seen = []

    @event.listens_for(services.database.engine, "do_execute")
    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    assert status(client, headers, f"/users/{user.id}") == 200
    assert len(seen) == number


def test_end_and_log_in_leave_the_etag_of_the_user_alone(client, config, database, user):
    headers = bearer_of(database, config, user)
    before = client.get("/users/me", headers=headers).headers["ETag"]

    client.delete(f"/users/{user.id}/sessions?keep=current", headers=headers)

    assert client.get("/users/me", headers=headers).headers["ETag"] == before


def spend_often(database, user, family_id):
    row = {"user_id": user.id, "family_id": family_id, "expires_at": in_a_day()}
    rows = [
        row | {"token_hash": str(number), "spent_at": datetime.now(UTC)} for number in range(SPENT)
    ]
    with database.transaction() as connection:
        connection.execute(insert(queries.tokens), rows)
        connection.execute(insert(queries.tokens), row | {"token_hash": "unspent"})


def in_a_day():
    return datetime.now(UTC) + timedelta(days=1)


def explain(database, user, family_id, how):
    """Return how the database does the look-up of the guard."""
    seen = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_others):
        seen.append((statement, parameters))

    with database.connection() as connection:
        claims = AccessClaims(user.id, family_id, datetime.now(UTC))
        assert credentials_queries.find_is_superuser(connection, claims) is False
        statement, parameters = seen[-1]
        return connection.exec_driver_sql(f"{how} {statement}", parameters).all()


def nodes(plan):
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


@pytest.mark.parametrize("is_analyzed", [True, False])
def test_of_three_thousand_spent_tokens_the_guard_reads_one(postgresql_url, is_analyzed):
    with closing(DatabaseManager(postgresql_url).initialize()) as database:
        user, family_id = make_user(database), uuid7()
        spend_often(database, user, family_id)
        if is_analyzed:
            with database.connection() as connection:
                connection.exec_driver_sql("ANALYZE refresh_tokens")

        [[[found]]] = explain(database, user, family_id, "EXPLAIN (ANALYZE, FORMAT JSON)")

    plan = found if isinstance(found, dict) else json.loads(found)
    [node] = [n for n in nodes(plan["Plan"]) if n.get("Relation Name") == "refresh_tokens"]
    assert node["Index Name"] in UNSPENT
    assert node["Actual Rows"] == 1
    assert node.get("Rows Removed by Filter", 0) == 0


def test_on_sqlite_the_guard_finds_the_unspent_token_by_its_own_index(sqlite_url):
    with closing(DatabaseManager(sqlite_url).initialize()) as database:
        user, family_id = make_user(database), uuid7()
        spend_often(database, user, family_id)

        plan = str(explain(database, user, family_id, "EXPLAIN QUERY PLAN"))

    assert any(each in plan for each in UNSPENT)


def test_access_tokens_that_outlast_their_log_in_are_refused_at_the_start(config):
    with pytest.raises(Exception, match="REFRESH_TOKEN_SECONDS must be longer"):
        replace(config, access_token_seconds=7200, refresh_token_seconds=3600)
