"""Exports have their row before the first byte, imports with their job."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.conftest import API_KEY, make_app
from tests.support.deeds import actions_of, deeds
from tests.support.factories import bearer_of, make_user
from userservice.actions import Action
from userservice.jobs import imports

LINES = b'{"email": "zorblax@example.com", "name": "Zorblax"}\n'
NDJSON = "application/x-ndjson"


@contextmanager
def without_trail(database):
    """Let no row of the trail be stored."""
    with database.connection() as connection:
        connection.execute(text("ALTER TABLE audit_events RENAME TO hidden"))
    try:
        yield
    finally:
        with database.connection() as connection:
            connection.execute(text("ALTER TABLE hidden RENAME TO audit_events"))


@pytest.mark.parametrize("path", ["/users/export", "/users/export?format=csv"])
def test_an_export_has_its_row_before_the_first_byte(app, database, path):
    make_user(database)
    caller = app.test_client()

    response = caller.get(path, headers={"X-API-Key": API_KEY}, buffered=False)

    (row,) = deeds(database, Action.USERS_EXPORTED)
    assert (row.outcome, row.actor_id, row.target) == ("begun", "environment", None)
    assert row.request_id == response.headers["X-Request-ID"]
    response.close()


@pytest.mark.parametrize("path", ["/users/export", "/users/{id}/export"])
def test_an_export_whose_row_cannot_be_stored_sends_nothing(service_client, database, path):
    user = make_user(database)

    with without_trail(database):
        response = service_client.get(path.format(id=user.id))

    assert response.status_code == 503
    assert user.email not in response.text


def test_the_export_of_a_person_names_the_person(client, config, database):
    user = make_user(database)

    client.get(f"/users/{user.id}/export", headers=bearer_of(database, config, user))

    (row,) = deeds(database, Action.USER_EXPORTED)
    assert (row.actor_id, row.target, row.outcome) == (str(user.id), str(user.id), "begun")


def test_an_export_that_is_refused_leaves_no_row(service_client, client, config, database):
    user = make_user(database)
    bearer = bearer_of(database, config, user)

    answers = [
        service_client.get("/users/0197f6a0-5b7c-7d3e-9a41-2f6c8b1d0e55/export"),
        service_client.get("/users/export?format=xml"),
        client.get("/users/export", headers=bearer),
        client.get("/users/0197f6a0-5b7c-7d3e-9a41-2f6c8b1d0e55/export", headers=bearer),
    ]

    assert [each.status_code for each in answers] == [404, 400, 403, 403]
    assert deeds(database, Action.USERS_EXPORTED, Action.USER_EXPORTED) == []


def test_an_import_has_its_row_with_its_job_and_no_other(service_client, services, database):
    answer = service_client.post("/users/import", data=LINES, content_type=NDJSON)
    job_id = UUID(answer.json["id"])
    at_first = actions_of(database)

    while imports.run_import_step(services, job_id):
        pass

    (row,) = deeds(database)
    assert at_first == [Action.IMPORT_CREATED]
    assert (row.target, row.actor_id, row.outcome) == (str(job_id), "environment", "done")
    assert service_client.get(f"/jobs/{job_id}").json["created"] == 1


def test_an_upload_that_breaks_off_leaves_no_row(config, services, database):
    caller = make_app(replace(config, import_max_bytes=10), services).test_client()

    answer = caller.post(
        "/users/import", data=LINES, content_type=NDJSON, headers={"X-API-Key": API_KEY}
    )

    assert answer.status_code == 413
    assert deeds(database) == []


def test_an_import_whose_row_cannot_be_stored_is_not_queued(service_client, database):
    with without_trail(database):
        answer = service_client.post("/users/import", data=LINES, content_type=NDJSON)

    assert answer.status_code == 503
    with database.connection() as connection:
        # As of an upload that broke off: callers do not see it, and a cleanup takes it.
        assert connection.scalar(text("SELECT state FROM jobs")) == "uploading"
        assert connection.scalar(text("SELECT count(*) FROM outbox_messages")) == 0


def test_an_import_is_cancelled_once(service_client, database):
    answer = service_client.post("/users/import", data=LINES, content_type=NDJSON)
    path = f"/jobs/{answer.json['id']}"

    statuses = [service_client.delete(path).status_code for _ in range(2)]

    assert statuses == [204, 204]
    (row,) = deeds(database, Action.IMPORT_CANCELLED)
    assert row.target == answer.json["id"]


def test_no_row_has_personal_data(service_client, database):
    user = make_user(database, email="zorblax@example.org", name="Zorblax")
    service_client.post("/users/import", data=LINES, content_type=NDJSON)
    service_client.get("/users/export")
    service_client.get(f"/users/{user.id}/export")

    told = json.dumps([[str(value) for value in row] for row in deeds(database)]).lower()

    assert actions_of(database)[-3:] == ["import.created", "users.exported", "user.exported"]
    assert "zorblax" not in told
    assert "@" not in told
