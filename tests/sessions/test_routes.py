"""/users/{id}/sessions: a user's log-ins are seen and ended."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from sqlalchemy import insert, update

from chassis.storage.clock import database_time
from chassis.storage.ids import LAST_MILLISECOND, first_id, moment_of, uuid7
from tests.support.factories import bearer_of, make_user
from userservice.logins import queries

PASSWORD = "correct horse battery"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@pytest.fixture
def user(database):
    return make_user(database, password=PASSWORD)


def log_in(client, user, user_agent=FIREFOX):
    form = {"grant_type": "password", "username": user.email, "password": PASSWORD}
    return client.post("/auth/token", data=form, headers={"User-Agent": user_agent}).json


def bearer(tokens):
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def sid_of(tokens):
    return jwt.decode(tokens["access_token"], options={"verify_signature": False})["sid"]


def list_sessions(client, user, headers=None):
    response = client.get(f"/users/{user.id}/sessions", headers=headers)
    assert response.status_code == 200
    return response.json["items"]


def end(client, user, rest, headers=None):
    return client.delete(f"/users/{user.id}/sessions{rest}", headers=headers).status_code


def works(client, tokens):
    return client.get("/users/me", headers=bearer(tokens)).status_code == 200


def refresh(client, tokens):
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return client.post("/auth/token", data=form)


def store(database, user, *, number=1, **values):
    """Store log-ins as the release before does; return the ids of their families."""
    row = {"user_id": user.id, "expires_at": datetime.now(UTC) + timedelta(days=1)} | values
    families = sorted(uuid7() for _ in range(number))
    rows = [{"token_hash": each.hex, "family_id": each} | row for each in families]
    with database.transaction() as connection:
        connection.execute(insert(queries.tokens), rows)
    return families


def test_a_user_sees_the_log_ins_the_newest_first(client, user):
    before = datetime.now(UTC) - timedelta(seconds=1)
    first, second = log_in(client, user, "curl/8.14.1"), log_in(client, user)

    response = client.get(f"/users/{user.id}/sessions", headers=bearer(first))

    assert response.headers["Cache-Control"] == "private, no-cache"
    newest, oldest = response.json["items"]
    assert list(newest) == ["id", "created_at", "refreshed_at", "expires_at", "label", "current"]
    assert [newest["id"], oldest["id"]] == [sid_of(second), sid_of(first)]
    assert [newest["label"], oldest["label"]] == ["Firefox on Linux", None]
    assert [newest["current"], oldest["current"]] == [False, True]
    assert [newest["refreshed_at"], oldest["refreshed_at"]] == [None, None]
    assert before < datetime.fromisoformat(oldest["created_at"]) <= datetime.now(UTC)
    expires_in = datetime.fromisoformat(newest["expires_at"]) - before
    assert timedelta(days=30) < expires_in < timedelta(days=30, minutes=5)


def test_a_refresh_is_the_same_session_with_its_label_and_a_time(client, user):
    first = log_in(client, user)
    [before] = list_sessions(client, user, bearer(first))

    renewed = refresh(client, first).json

    [after] = list_sessions(client, user, bearer(renewed))
    assert after["refreshed_at"] >= before["created_at"][:19]
    unchanged = ("id", "created_at", "label", "current")
    assert [after[name] for name in unchanged] == [before[name] for name in unchanged]


def test_administrators_see_them_and_none_of_them_is_their_own(
    client, service_client, config, database, user
):
    tokens = log_in(client, user)
    superuser = bearer_of(database, config, make_user(database, is_superuser=True))

    for caller, headers in ((service_client, None), (client, superuser)):
        [session] = list_sessions(caller, user, headers)
        assert (session["id"], session["current"]) == (sid_of(tokens), False)


def test_no_text_of_the_header_is_kept(client, service_client, user):
    log_in(client, user, f"{FIREFOX} (Ada's own telephone)")

    assert "telephone" not in str(list_sessions(service_client, user))


def test_sessions_that_ended_or_expired_are_not_listed(client, service_client, database, user):
    ended, expired = log_in(client, user), log_in(client, user)
    client.post("/auth/revoke", data={"token": ended["refresh_token"]})
    with database.connection() as connection:
        own = queries.tokens.c.family_id == UUID(sid_of(expired))
        values = {"expires_at": database_time()}
        connection.execute(update(queries.tokens).where(own).values(values))

    assert list_sessions(service_client, user) == []
    assert not works(client, expired)


def test_log_ins_from_before_are_listed_with_what_is_known_of_them(service_client, database, user):
    [family_id] = store(database, user)
    store(database, user, token_hash="t", family_id=uuid4())

    sessions = {each["id"]: each for each in list_sessions(service_client, user)}

    known = sessions.pop(str(family_id))
    assert known["created_at"] is not None
    assert (known["refreshed_at"], known["label"]) == (None, None)
    [unknown] = sessions.values()
    assert unknown["created_at"] is None


@pytest.mark.parametrize("row_id", [uuid4(), first_id(datetime.max.replace(tzinfo=UTC))])
def test_an_id_that_tells_no_time_has_none(row_id):
    assert moment_of(row_id) is None


def test_an_id_tells_when_it_was_made():
    beyond = UUID(int=LAST_MILLISECOND << 80 | 7 << 76)
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    made = moment_of(uuid7())

    assert made is not None
    assert before <= made <= datetime.now(UTC)
    assert moment_of(beyond) is None  # past the last year that Python knows


def test_a_session_is_ended_with_its_tokens_and_no_other_is(client, user):
    mine, other = log_in(client, user), log_in(client, user)

    status = end(client, user, f"/{sid_of(other)}", bearer(mine))

    assert status == 204
    assert (works(client, mine), works(client, other)) == (True, False)
    assert (refresh(client, mine).status_code, refresh(client, other).status_code) == (200, 400)


def test_a_session_can_be_ended_once(client, user):
    mine, other = log_in(client, user), log_in(client, user)

    statuses = [end(client, user, f"/{sid_of(other)}", bearer(mine)) for _ in range(2)]

    assert statuses == [204, 404]


def test_a_session_that_has_expired_is_not_found_and_counts_as_ended_by_nobody(
    client, service_client, database, user
):
    tokens = log_in(client, user)
    refreshed = refresh(client, tokens).json
    with database.connection() as connection:
        connection.execute(update(queries.tokens).values(expires_at=database_time()))
    before = counted(service_client)

    status = end(service_client, user, f"/{sid_of(tokens)}")
    client.post("/auth/revoke", data={"token": refreshed["refresh_token"]})

    assert status == 404
    assert refresh(client, refreshed).status_code == 400
    assert counted(service_client) == before


def test_administrators_may_end_a_session(client, service_client, user):
    tokens = log_in(client, user)

    assert end(service_client, user, f"/{sid_of(tokens)}") == 204
    assert not works(client, tokens)


def test_an_unknown_session_and_that_of_another_user_are_not_found(
    client, service_client, database, user
):
    stranger = make_user(database, password=PASSWORD)
    mine, foreign = log_in(client, user), log_in(client, stranger)

    answers = [
        client.delete(f"/users/{user.id}/sessions/{each}", headers=bearer(mine))
        for each in (uuid4(), sid_of(foreign))
    ]

    assert [each.status_code for each in answers] == [404, 404]
    assert {each.json["code"] for each in answers} == {"session_not_found"}
    assert works(client, foreign)
    assert end(service_client, user, f"/{sid_of(foreign)}") == 404
    assert works(client, foreign)


@pytest.mark.parametrize("state", ["unknown", "deleted"])
def test_of_a_user_who_is_not_there_nothing_is_found(service_client, user, state):
    if state == "deleted":
        service_client.delete(f"/users/{user.id}")
    user_id = user.id if state == "deleted" else uuid4()

    listed = service_client.get(f"/users/{user_id}/sessions")
    ended = service_client.delete(f"/users/{user_id}/sessions/{uuid4()}")

    assert [listed.json["code"], ended.json["code"]] == ["user_not_found"] * 2


def test_all_sessions_but_the_own_end(client, user):
    mine, *others = (log_in(client, user) for _ in range(3))

    status = end(client, user, "?keep=current", bearer(mine))

    assert status == 204
    assert works(client, mine)
    assert not any(works(client, each) for each in others)
    assert refresh(client, mine).status_code == 200


def test_all_sessions_end(client, user):
    mine, other = log_in(client, user), log_in(client, user)

    status = end(client, user, "", bearer(mine))

    assert status == 204
    assert not any(works(client, each) for each in (mine, other))
    assert works(client, log_in(client, user))


@pytest.mark.parametrize("query", ["?keep=others", "?keep=", "?keeep=current"])
def test_a_query_that_is_misspelt_ends_nothing(client, user, query):
    mine, other = log_in(client, user), log_in(client, user)

    assert end(client, user, query, bearer(mine)) == 400
    assert works(client, other)


def test_a_superuser_may_end_the_own_sessions_alone(client, config, database, user):
    tokens = log_in(client, user)
    superuser = make_user(database, is_superuser=True)
    headers = bearer_of(database, config, superuser)

    assert end(client, user, "", headers) == 403
    assert end(client, superuser, "", headers) == 204
    assert works(client, tokens)


def test_the_sessions_of_others_go_on(client, database, user):
    other = make_user(database, password=PASSWORD)
    mine, foreign = log_in(client, user), log_in(client, other)

    end(client, user, "", bearer(mine))

    assert works(client, foreign)


def test_beyond_a_hundred_sessions_a_log_in_ends_the_oldest(client, service_client, database, user):
    oldest, second, *_ = store(database, user, number=100)

    tokens = log_in(client, user)

    ids = [each["id"] for each in list_sessions(service_client, user)]
    assert len(ids) == 100
    assert ids[0] == sid_of(tokens)
    assert ids[-1] == str(second)
    assert str(oldest) not in ids


def test_a_log_in_on_a_host_that_is_late_does_not_end_itself(
    client, service_client, database, user, monkeypatch
):
    store(database, user, number=100)
    late = UUID(int=uuid7().int - (1 << 110))
    monkeypatch.setattr("userservice.tokens.service.uuid7", lambda: late)

    tokens = log_in(client, user)

    assert works(client, tokens)
    assert len(list_sessions(service_client, user)) == 100


def test_sessions_that_expired_or_were_spent_count_for_nothing(
    client, service_client, database, user
):
    past = datetime.now(UTC) - timedelta(days=1)
    [living] = store(database, user)
    store(database, user, number=100, expires_at=past)
    store(database, user, number=100, spent_at=past)

    tokens = log_in(client, user)

    ids = [each["id"] for each in list_sessions(service_client, user)]
    assert ids == [sid_of(tokens), str(living)]


def test_what_ended_is_logged_and_counted_without_personal_data(
    client, service_client, user, caplog
):
    caplog.set_level("INFO")
    before = counted(service_client)
    tokens = [log_in(client, user) for _ in range(5)]
    client.post("/auth/revoke", data={"token": tokens[0]["refresh_token"]})
    end(client, user, f"/{sid_of(tokens[1])}", bearer(tokens[4]))
    end(client, user, "?keep=current", bearer(tokens[4]))

    service_client.delete(f"/users/{user.id}")

    told = [each for each in caplog.records if each.msg == "Sessions ended"]
    assert [(each.reason, each.sessions) for each in told] == [
        ("log_out", 1),
        ("request", 1),
        ("request", 2),
        ("deletion", 1),
    ]
    assert {each.user_id for each in told} == {str(user.id)}
    assert user.email not in caplog.text
    grown = {name: value - before[name] for name, value in counted(service_client).items()}
    assert grown == {
        "log_out": 1,
        "request": 3,
        "reuse": 0,
        "limit": 0,
        "password": 0,
        "suspension": 0,
        "deletion": 1,
    }


def counted(client):
    text = client.get("/metrics").text
    found = re.findall(r'^sessions_ended_total\{reason="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {reason: float(value) for reason, value in found}
