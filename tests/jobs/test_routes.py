from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select, text, update

from chassis.background import outbox
from chassis.background.outbox import OutboxMessage
from chassis.storage.ids import uuid7
from config import AppConfig
from tests.conftest import API_KEY, make_app
from tests.support.factories import make_user
from userservice.jobs import imports, service, uploads
from userservice.jobs.errors import TooManyTransfers
from userservice.jobs.models import Job, JobChunk, UploadFormat
from userservice.resources import ABANDONED_HANDLERS
from userservice.users.models import User

NDJSON = "application/x-ndjson"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
NOWHERE = "postgresql://app@127.0.0.1:1/app"
END_STREAMS = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)


def lines(first, last):
    rows = ({"email": f"u{n}@example.com", "name": f"User {n}"} for n in range(first, last))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def send(client, data, content_type=NDJSON):
    return client.post("/users/import", data=data, content_type=content_type)


def work(services, response):
    """Do all steps of the job that a response speaks of, and return the job."""
    job_id = UUID(response.json["id"])
    while imports.run_import_step(services, job_id):
        pass
    job, refusals = service.get_job(services.database, job_id)
    return job, refusals


def count(database, column):
    with database.connection() as connection:
        return connection.execute(select(func.count(column))).scalar_one()


def test_an_import_is_accepted_done_and_reported(service_client, services, database):
    data = lines(0, 3) + b"broken\n" + lines(0, 1)

    accepted = send(service_client, data)
    work(services, accepted)
    report = service_client.get(accepted.headers["Location"]).json

    assert accepted.status_code == 202
    assert accepted.json["state"] == "queued"
    assert report["state"] == "succeeded"
    assert (report["created"], report["failed"]) == (3, 2)
    assert [(each["line"], each["pointer"]) for each in report["errors"]] == [
        (4, ""),
        (5, "/email"),
    ]
    assert report["progress"] == {"done_bytes": len(data), "total_bytes": len(data)}
    assert count(database, User.id) == 3
    assert count(database, JobChunk.start) == 0


def imported_lines():
    """Return result -> the number of lines that this process has counted."""
    return {
        result: REGISTRY.get_sample_value("import_lines_total", {"result": result}) or 0
        for result in ("created", "refused")
    }


def test_lines_are_counted_by_what_became_of_them(service_client, services):
    before = imported_lines()

    work(services, send(service_client, lines(0, 3) + b"broken\n" + lines(0, 1)))

    after = imported_lines()
    assert {result: after[result] - before[result] for result in after} == {
        "created": 3,
        "refused": 2,
    }


def test_an_export_is_in_the_order_of_ids_whatever_was_changed(service_client, database):
    users = [make_user(database) for _ in range(5)]
    with database.connection() as connection:
        for user in users[:3]:  # PostgreSQL stores a changed row behind the others
            connection.execute(update(User).where(User.id == user.id).values(name="Changed"))

    exported = service_client.get("/users/export").data.splitlines()

    assert [json.loads(line)["id"] for line in exported] == sorted(str(user.id) for user in users)


def test_steps_are_small_and_each_is_done_once(service_client, services, database, monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    data = lines(0, 100)

    accepted = send(service_client, data)
    steps = 0
    while imports.run_import_step(services, UUID(accepted.json["id"])):
        steps += 1
    again = imports.run_import_step(services, UUID(accepted.json["id"]))

    assert steps > 5
    assert again is False
    assert count(database, User.id) == 100


def test_a_step_that_two_workers_do_happens_once(service_client, services, database, monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    accepted = send(service_client, lines(0, 50))
    job_id = UUID(accepted.json["id"])
    slow = replace(
        services, tasks=Meanwhile(services, lambda: imports.run_import_step(services, job_id))
    )

    is_done = imports.run_import_step(slow, job_id)
    job, refusals = work(services, accepted)

    assert is_done is False
    assert (job.created, job.failed, refusals) == (50, 0, [])
    assert count(database, User.id) == 50


def test_addresses_of_living_users_are_refused_and_those_of_the_deleted_are_free(
    service_client, services, database
):
    taken = make_user(database, email="U0@example.com")
    service_client.delete(f"/users/{make_user(database, email='u1@example.com').id}")

    job, refusals = work(services, send(service_client, lines(0, 3)))

    assert (job.created, job.failed) == (2, 1)
    assert [(each.line, each.reason) for each in refusals] == [(1, "User already exists")]
    assert service_client.get(f"/users/{taken.id}").status_code == 200


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("z\u00e9@example.com", "Ze\u0301@example.com"),
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
    ],
    ids=["composed and decomposed", "sharp s"],
)
def test_an_import_takes_one_spelling_of_an_address(service_client, services, first, second):
    rows = [json.dumps({"email": each, "name": "Z"}) for each in (first, second)]

    job, refusals = work(services, send(service_client, "\n".join(rows).encode()))

    assert (job.created, job.failed) == (1, 1)
    assert [(each.line, each.pointer) for each in refusals] == [(2, "/email")]


def test_imported_users_get_no_welcome(service_client, services, database):
    work(services, send(service_client, lines(0, 2)))

    with database.connection() as connection:
        topics = connection.execute(select(OutboxMessage.topic)).scalars().all()
    assert set(topics) == {service.IMPORT_STEP}


def test_a_cancelled_job_does_no_further_step(service_client, services, database, monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    accepted = send(service_client, lines(0, 50))
    imports.run_import_step(services, UUID(accepted.json["id"]))
    done = count(database, User.id)

    cancelled = service_client.delete(accepted.headers["Location"])
    again = service_client.delete(accepted.headers["Location"])
    is_done = imports.run_import_step(services, UUID(accepted.json["id"]))

    assert (cancelled.status_code, again.status_code) == (204, 204)
    assert is_done is False
    assert service_client.get(accepted.headers["Location"]).json["state"] == "cancelled"
    assert 0 < count(database, User.id) == done < 50
    assert count(database, JobChunk.start) == 0


class Meanwhile:
    """Lets something happen while a step is parsed, once."""

    def __init__(self, services, happen):
        self._run = services.tasks.submit_cpu_task
        self._happen = happen

    def submit_cpu_task(self, function, *arguments):
        happen, self._happen = self._happen, lambda: None
        happen()
        return self._run(function, *arguments)


def test_a_job_that_is_cancelled_during_a_step_stores_nothing_of_it(
    service_client, services, database, monkeypatch
):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    accepted = send(service_client, lines(0, 50))
    path, job_id = accepted.headers["Location"], UUID(accepted.json["id"])
    cancelling = Meanwhile(services, lambda: service_client.delete(path))

    is_done = imports.run_import_step(replace(services, tasks=cancelling), job_id)

    assert is_done is False
    assert imports.run_import_step(services, job_id) is False
    assert service_client.get(path).json["state"] == "cancelled"
    assert count(database, User.id) == count(database, JobChunk.start) == 0


@pytest.mark.parametrize(
    ("body", "media_type", "state"),
    [(lines(0, 2), NDJSON, "succeeded"), (b"name\nAda\n", "text/csv", "failed")],
    ids=["succeeded", "failed for good"],
)
def test_a_job_that_is_over_stays_as_it_is(service_client, services, body, media_type, state):
    accepted = send(service_client, body, media_type)
    work(services, accepted)
    before = service_client.get(accepted.headers["Location"]).json

    cancelled = service_client.delete(accepted.headers["Location"])

    assert before["state"] == state
    assert cancelled.status_code == 204
    assert service_client.get(accepted.headers["Location"]).json == before


def give_up(services, job_id):
    """Do what the worker does when a step has failed for a day."""
    message = outbox.Message(
        uuid7(), service.IMPORT_STEP, {"job_id": str(job_id)}, {}, 400, NOW, NOW, NOW
    )
    ABANDONED_HANDLERS[service.IMPORT_STEP](services, message, "The task ended its process")


def test_a_job_whose_step_was_given_up_has_failed_and_says_why(
    service_client, services, database, monkeypatch
):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    accepted = send(service_client, lines(0, 50))
    imports.run_import_step(services, UUID(accepted.json["id"]))
    done = count(database, User.id)

    give_up(services, accepted.json["id"])
    report = service_client.get(accepted.headers["Location"]).json

    assert (report["state"], report["reason"]) == ("failed", "The task ended its process")
    assert report["created"] == done > 0


def test_a_job_that_was_given_up_goes_on_when_its_step_is_tried_again(
    service_client, services, database, monkeypatch
):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    accepted = send(service_client, lines(0, 50))
    imports.run_import_step(services, UUID(accepted.json["id"]))
    give_up(services, accepted.json["id"])

    job, refusals = work(services, accepted)

    assert (job.state, job.reason, job.created, refusals) == ("succeeded", None, 50, [])
    assert count(database, User.id) == 50


def test_a_job_that_was_given_up_and_cancelled_does_not_go_on(service_client, services, database):
    accepted = send(service_client, lines(0, 5))
    give_up(services, accepted.json["id"])

    service_client.delete(accepted.headers["Location"])
    is_done = imports.run_import_step(services, UUID(accepted.json["id"]))
    give_up(services, accepted.json["id"])

    assert is_done is False
    assert service_client.get(accepted.headers["Location"]).json["state"] == "cancelled"
    assert count(database, User.id) == count(database, JobChunk.start) == 0


def test_a_table_that_does_not_name_its_columns_fails_and_says_why(service_client, services):
    accepted = send(service_client, b"name\nAda\n", "text/csv")
    work(services, accepted)

    report = service_client.get(accepted.headers["Location"]).json
    again = imports.run_import_step(services, UUID(accepted.json["id"]))

    assert report["state"] == "failed"
    assert report["reason"] == report["errors"][0]["reason"]
    assert again is False


def test_an_upload_in_progress_is_no_job_yet(service_client, database):
    seen = []

    def pieces():
        with database.connection() as connection:
            (job_id,) = connection.execute(select(Job.id)).one()
        seen.append(service_client.get(f"/jobs/{job_id}").status_code)
        seen.append(service_client.delete(f"/jobs/{job_id}").status_code)
        yield lines(0, 3)

    job = uploads.start_import(database, UploadFormat.NDJSON, pieces())

    assert seen == [404, 404]
    assert service_client.get(f"/jobs/{job.id}").json["state"] == "queued"


def test_an_upload_that_breaks_off_leaves_nothing(database):
    def broken():
        yield lines(0, 10)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        uploads.start_import(database, UploadFormat.NDJSON, broken())

    assert count(database, Job.id) == 0
    assert count(database, OutboxMessage.id) == 0


def test_an_upload_over_the_limit_is_refused_whole(config, services, database):
    app = make_app(replace(config, import_max_bytes=1000), services)
    caller = app.test_client()
    caller.environ_base["HTTP_X_API_KEY"] = config.api_key

    announced = send(caller, lines(0, 100))
    chunked = caller.post(
        "/users/import",
        input_stream=io.BytesIO(lines(0, 100)),
        content_type=NDJSON,
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert announced.status_code == chunked.status_code == 413
    assert count(database, Job.id) == 0


def test_other_content_types_are_refused(service_client):
    response = send(service_client, b"{}", "application/json")

    assert response.status_code == 415
    assert NDJSON in response.json["detail"]


def test_a_job_that_is_not_there_is_not_found(service_client):
    response = service_client.get("/jobs/01900000-0000-7000-8000-000000000000")

    assert response.status_code == 404
    assert response.json["code"] == "job_not_found"


def test_as_many_transfers_as_the_process_takes(config, services):
    app = make_app(replace(config, transfers=1), services)
    headers = {"X-API-Key": config.api_key}
    held = app.test_client().get("/users/export", headers=headers, buffered=False)

    refused = app.test_client().get("/users/export", headers=headers)
    held.close()
    answered = app.test_client().get("/users/export", headers=headers)

    assert (refused.status_code, answered.status_code) == (503, 200)
    assert refused.headers["Retry-After"]


@pytest.mark.parametrize("file_format", ["ndjson", "csv"])
def test_an_export_without_a_database_is_refused_before_it_begins(file_format):
    config = AppConfig(database_url=NOWHERE, redis_url="", api_key=API_KEY, transfers=1)
    caller = make_app(config).test_client()
    path, headers = f"/users/export?format={file_format}", {"X-API-Key": API_KEY}

    refused = [caller.get(path, headers=headers) for _ in range(2)]

    assert [each.status_code for each in refused] == [503, 503]
    assert TooManyTransfers.title not in {each.json["title"] for each in refused}
    assert all(each.headers["Retry-After"] for each in refused)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_leaves_an_export_whose_connection_broke_leaves_its_place(config, services, database):
    make_user(database)
    app = make_app(replace(config, transfers=1), services)
    headers = {"X-API-Key": config.api_key}
    held = app.test_client().get("/users/export", headers=headers, buffered=False)
    with database.connection() as connection:
        ended = connection.scalar(END_STREAMS)

    held.close()

    assert ended == 1
    assert app.test_client().get("/users/export", headers=headers).status_code == 200


def test_an_export_of_nobody_is_a_header_or_nothing(service_client):
    as_lines = service_client.get("/users/export")
    as_table = service_client.get("/users/export?format=csv")

    assert (as_lines.status_code, as_lines.data) == (200, b"")
    assert (as_table.status_code, as_table.data) == (
        200,
        b"id,email,name,source,tier,created_at\r\n",
    )


def test_what_goes_in_comes_out_the_same_in_both_formats(service_client, services):
    names = ["Ada", '"', "=1+1", "a,b", "Ünï", "'x"]
    rows = [{"email": f"u{n}@example.com", "name": name} for n, name in enumerate(names)]
    work(services, send(service_client, "\n".join(map(json.dumps, rows)).encode()))

    as_lines = service_client.get("/users/export")
    as_table = service_client.get("/users/export?format=csv")
    for user in service_client.get("/users").json["items"]:
        service_client.delete(f"/users/{user['id']}")
    job, refusals = work(services, send(service_client, as_table.data, "text/csv"))
    again = service_client.get("/users/export")

    def people(response):
        documents = [json.loads(line) for line in response.text.splitlines()]
        return {(each["email"], each["name"]) for each in documents}

    assert as_lines.mimetype == NDJSON
    assert people(as_lines) == {(row["email"], row["name"]) for row in rows}
    assert len(list(csv.reader(io.StringIO(as_table.text, newline="")))) == len(rows) + 1
    assert (job.created, refusals) == (len(rows), [])
    assert people(again) == people(as_lines)


def test_an_export_shows_one_moment_while_users_are_written_and_deleted(
    service_client, database, monkeypatch
):
    monkeypatch.setattr("chassis.storage.database.STREAMED_ROWS", 2)
    users = [make_user(database) for _ in range(6)]
    before = service_client.get("/users/export").data
    held = service_client.get("/users/export", buffered=False)
    pieces = iter(held.response)
    start = next(pieces)

    for number, user in enumerate(users):
        path = f"/users/{user.id}"
        changed = service_client.patch(path, json={"name": "Changed"})
        gone = service_client.delete(path) if number % 2 else changed
        assert (changed.status_code, gone.status_code) == (200, 204 if number % 2 else 200)
    make_user(database)
    rest = list(pieces)
    held.close()

    assert len(rest) == 2
    assert start + b"".join(rest) == before
    assert service_client.get("/users/export").data.count(b"\n") == 4


def test_steps_are_messages_of_the_outbox(service_client, database):
    accepted = send(service_client, lines(0, 1))

    with database.connection() as connection:
        waiting = outbox.backlog(connection).queued
        payload = connection.execute(select(OutboxMessage.payload)).scalar_one()

    assert waiting == 1
    assert payload == {"job_id": accepted.json["id"]}
