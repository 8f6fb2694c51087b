"""A suspended user is kept out, and nobody but administrators can tell."""

from __future__ import annotations

import threading
from uuid import uuid4

import jwt
import pytest
from sqlalchemy import select, update

from app import make_token_issuer
from chassis.security import LOCK, PasswordHasher
from tests.support.factories import bearer_of, begin_log_in, make_user
from tests.support.statements import sent_by
from tests.support.waiting import DEADLINE_SECONDS
from userservice.logins import queries as logins
from userservice.standing import service
from userservice.users import credentials
from userservice.users import service as users_service
from userservice.users.errors import UserNotFound
from userservice.users.links import Purpose, check_link, make_link
from userservice.users.queries import users

PASSWORD = "correct horse battery"
WRONG = "another sentence of length"


@pytest.fixture
def user(database):
    return make_user(database, password=PASSWORD)


def column(database, user, name):
    with database.connection() as connection:
        return connection.scalar(select(users.c[name]).where(users.c.id == user.id))


def log_in(client, user, password=PASSWORD):
    form = {"grant_type": "password", "username": user.email, "password": password}
    return client.post("/auth/token", data=form)


def refresh(client, tokens):
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return client.post("/auth/token", data=form)


def bearer(tokens):
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def suspend(service_client, user, **body):
    response = service_client.put(f"/users/{user.id}/suspension", json=body)
    assert response.status_code == 204
    assert response.data == b""


def reinstate(service_client, user):
    assert service_client.delete(f"/users/{user.id}/suspension").status_code == 204


def test_a_suspension_ends_log_ins_at_once_and_a_reinstatement_brings_none_back(
    client, service_client, user
):
    tokens = log_in(client, user).json

    suspend(service_client, user)
    refused = client.get("/users/me", headers=bearer(tokens)), refresh(client, tokens)
    reinstate(service_client, user)

    assert [each.status_code for each in refused] == [401, 400]
    assert refused[1].json["error"] == "invalid_grant"
    assert client.get("/users/me", headers=bearer(tokens)).status_code == 401
    assert refresh(client, tokens).status_code == 400
    assert client.get("/users/me", headers=bearer(log_in(client, user).json)).status_code == 200


def test_a_token_of_the_release_before_ends_with_a_suspension_and_stays_ended(
    client, service_client, config, database, user
):
    # Such a token names no log-in, so that only the user's row can end it.
    with database.connection() as connection:
        own = logins.tokens.c.user_id == user.id
        bearer_of(database, config, user)
        connection.execute(logins.tokens.delete().where(own))
    old = old_bearer(config, user)

    statuses = [client.get("/users/me", headers=old).status_code]
    suspend(service_client, user)
    statuses.append(client.get("/users/me", headers=old).status_code)
    reinstate(service_client, user)
    statuses.append(client.get("/users/me", headers=old).status_code)

    assert statuses == [200, 401, 401]


def old_bearer(config, user):
    token = make_token_issuer(config).access_tokens.issue(user.id, user.id)
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    del claims["sid"]
    signed = jwt.encode(claims, config.jwt_secret, "HS256", {"kid": header["kid"]})
    return {"Authorization": f"Bearer {signed}"}


def comparable(response):
    """Return all that a caller sees of an answer, but for what differs each time."""
    document = response.json | {"request_id": "", "trace_id": ""}
    headers = [each for each in response.headers if each[0] != "X-Request-ID"]
    return response.status_code, document, headers


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_a_log_in_of_a_suspended_user_is_answered_as_a_wrong_password_is(
    client, service_client, database, user, password
):
    other = make_user(database, password=PASSWORD)
    suspend(service_client, user, reason="Chargeback")

    refused = log_in(client, user, password)

    assert comparable(refused) == comparable(log_in(client, other, WRONG))
    assert (refused.status_code, refused.json["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_the_statements_of_both_are_the_same(client, service_client, services, user, password):
    other = make_user(services.database, password=PASSWORD)
    suspend(service_client, user)

    assert statements(services, lambda: log_in(client, user, password)) == statements(
        services, lambda: log_in(client, other, WRONG)
    )


def statements(services, work):
    with sent_by(services.database) as seen:
        work()
    return seen


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_the_very_hash_of_a_suspended_user_is_verified_in_full_before_it_is_refused(
    client, services, user, password, monkeypatch
):
    """Time would tell a suspended user; what costs it is counted instead."""
    stored = column(services.database, user, "password_hash")
    service.suspend(services.database, user.id)
    verified = []
    argon2 = type(services.hasher._argon2)  # noqa: SLF001 - counted in the library, below our code
    original = argon2.verify

    def verify(self, *arguments):
        verified.append(arguments[0])
        return original(self, *arguments)

    monkeypatch.setattr(argon2, "verify", verify)

    assert log_in(client, user, password).status_code == 400
    assert verified == [stored]


def test_the_password_of_before_is_right_again_and_its_hash_is_as_before(
    client, service_client, database, user
):
    before = column(database, user, "password_hash")

    suspend(service_client, user)
    locked = column(database, user, "password_hash")
    suspend(service_client, user, reason="still")
    again = column(database, user, "password_hash")
    reinstate(service_client, user)
    reinstate(service_client, user)

    assert (locked, again) == (LOCK + before, LOCK + before)
    assert column(database, user, "password_hash") == before
    assert log_in(client, user).status_code == 200


def test_a_user_without_a_password_has_none_afterwards(client, service_client, database):
    user = make_user(database)

    suspend(service_client, user)
    suspended = column(database, user, "password_hash")
    reinstate(service_client, user)

    assert (suspended, column(database, user, "password_hash")) == (None, None)
    assert log_in(client, user, LOCK).status_code == 400


def test_a_rehash_that_is_late_does_not_unlock_a_suspended_user(database, user):
    verified = column(database, user, "password_hash")
    service.suspend(database, user.id)

    is_stored = credentials.store_password_hash(database, user.id, verified, "$argon2id$new")

    assert is_stored is False
    assert column(database, user, "password_hash") == LOCK + verified


def test_a_suspended_user_whose_hash_is_outdated_is_refused_and_not_rehashed(
    client, service_client, database
):
    expensive = PasswordHasher(memory_kib=16, time_cost=1)
    user = make_user(database)
    with database.connection() as connection:
        values = {"password_hash": expensive.hash(PASSWORD)}
        connection.execute(update(users).where(users.c.id == user.id).values(values))
    suspend(service_client, user)
    locked = column(database, user, "password_hash")

    assert log_in(client, user).status_code == 400

    assert column(database, user, "password_hash") == locked
    reinstate(service_client, user)
    assert log_in(client, user).status_code == 200


def test_a_suspended_user_whose_hash_lost_its_lock_is_refused_as_well(
    client, service_client, database, user
):
    before = column(database, user, "password_hash")
    suspend(service_client, user)
    with database.connection() as connection:
        values = {"password_hash": before}
        connection.execute(update(users).where(users.c.id == user.id).values(values))

    assert log_in(client, user).status_code == 400


def test_a_token_of_a_suspended_user_is_worth_nothing_whatever_is_stored(
    client, config, database, user
):
    service.suspend(database, user.id)

    tokens = begin_log_in(database, config, user)
    headers = {"Authorization": f"Bearer {tokens.access_token}"}

    assert client.get("/users/me", headers=headers).status_code == 401
    assert refresh(client, {"refresh_token": tokens.refresh_token}).status_code == 400


def test_links_of_before_are_void_and_stay_so(services, user):
    database = services.database
    link = make_link(services, Purpose.PRINTED, user.id, user.created_at)
    check_link(services, link[1], Purpose.PRINTED)

    for change in (service.suspend, service.reinstate):
        change(database, user.id)
        with pytest.raises(Exception, match="link"):
            check_link(services, link[1], Purpose.PRINTED)


def test_the_status_is_suspended_in_documents_and_active_in_the_column(
    service_client, database, user
):
    suspend(service_client, user)

    assert service_client.get(f"/users/{user.id}").json["status"] == "suspended"
    assert column(database, user, "status") == "active"
    reinstate(service_client, user)
    assert service_client.get(f"/users/{user.id}").json["status"] == "active"


def test_the_etag_moves_with_the_status_and_not_with_the_reason(service_client, user):
    def etag():
        return service_client.get(f"/users/{user.id}").headers["ETag"]

    seen = [etag()]
    for change in (
        lambda: suspend(service_client, user),
        lambda: suspend(service_client, user, reason="Chargeback"),
        lambda: reinstate(service_client, user),
        lambda: reinstate(service_client, user),
    ):
        change()
        seen.append(etag())

    assert seen == ['"1"', '"2"', '"2"', '"3"', '"3"']


def test_lists_show_both_unless_a_status_is_named(service_client, database, user):
    active, deleted = make_user(database), make_user(database)
    suspend(service_client, user)
    users_service.delete_user(database, deleted.id)

    def listed(query):
        items = service_client.get(f"/users{query}").json["items"]
        return {each["id"]: each["status"] for each in items}

    only_active = {str(active.id): "active"}
    only_suspended = {str(user.id): "suspended"}
    assert listed("") == only_active | only_suspended
    assert listed("?status=active") == only_active
    assert listed("?status=suspended") == only_suspended
    assert listed("?status=deleted") == {str(deleted.id): "deleted"}
    assert listed(f"?status=active&email={user.email}") == {}
    assert service_client.get("/users?status=locked").status_code == 400


def test_pages_of_suspended_users_go_on(service_client, database):
    both = [make_user(database) for _ in range(3)]
    for each in both:
        suspend(service_client, each)

    first = service_client.get("/users?status=suspended&page_size=2").json
    path = f"/users?status=suspended&page_size=2&page_token={first['next_page_token']}"
    second = service_client.get(path).json

    found = [each["id"] for each in first["items"] + second["items"]]
    assert found == sorted(str(each.id) for each in both)


def test_users_are_counted_by_the_status_that_documents_show(service_client, database, user):
    make_user(database)
    suspend(service_client, user)

    assert users_service.count_users(database) == {"active": 1, "suspended": 1, "deleted": 0}


def test_administrators_read_change_and_delete_a_suspended_user(service_client, user):
    suspend(service_client, user)
    path = f"/users/{user.id}"

    assert service_client.patch(path, json={"name": "Countess"}).json["status"] == "suspended"
    assert service_client.get(f"{path}/sessions").json == {"items": []}
    assert service_client.post("/users", json={"email": user.email, "name": "A"}).status_code == 409
    assert service_client.delete(path).status_code == 204
    assert service_client.get("/users?status=deleted").json["items"][0]["status"] == "deleted"


@pytest.mark.parametrize("state", ["unknown", "deleted"])
def test_a_user_who_is_not_there_is_neither_suspended_nor_reinstated(database, user, state):
    users_service.delete_user(database, user.id)
    user_id = user.id if state == "deleted" else uuid4()

    for change in (service.suspend, service.reinstate):
        with pytest.raises(UserNotFound):
            change(database, user_id)


@pytest.mark.parametrize(
    "body",
    [
        *({"reason": reason} for reason in ("", "x" * 201, "a\nb", 1, "   ", "\u00a0", "\u200b")),
        {"why": "x"},
    ],
)
def test_a_reason_is_one_line_of_at_most_200_characters_that_can_be_seen(
    service_client, user, body
):
    response = service_client.put(f"/users/{user.id}/suspension", json=body)

    assert response.status_code == 400
    assert service_client.get(f"/users/{user.id}").json["status"] == "active"


def test_a_suspension_is_logged_and_counted_without_its_reason(
    client, service_client, user, caplog
):
    caplog.set_level("INFO")
    log_in(client, user)

    suspend(service_client, user, reason="Chargeback")
    suspend(service_client, user, reason="Chargeback again")
    reinstate(service_client, user)

    told = [each.msg for each in caplog.records if getattr(each, "user_id", "") == str(user.id)]
    assert told == ["Sessions ended", "User suspended", "User reinstated"]
    assert "Chargeback" not in str([vars(each) for each in caplog.records])
    ended = 'sessions_ended_total{reason="suspension"}'
    assert f"{ended} 0.0" not in service_client.get("/metrics").text


def test_many_suspensions_at_once_lock_the_hash_once(database, user):
    before = column(database, user, "password_hash")
    threads = [threading.Thread(target=service.suspend, args=(database, user.id)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(DEADLINE_SECONDS)

    assert column(database, user, "password_hash") == LOCK + before
