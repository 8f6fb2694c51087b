"""Uploads that are wrong in parts: each line gets its error, and the rest goes on."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from tests.support.factories import make_user
from userservice.jobs import imports, service, uploads
from userservice.jobs.models import JobError
from userservice.users.models import User

NDJSON = "application/x-ndjson"

TABLE = (
    b"\xef\xbb\xbfname,email,tier\r\n"
    b'"Lovelace, ""Ada""",ada@example.com,pro\r\n'  # 2
    b"=SUM(A1),formula@example.com,\n"
    b"'=SUM(A1),escaped@example.com,\n"  # 4
    b"Bob,bob@example.com,\r"
    b"Bob again,BOB@example.com,\r\n"  # 6
    b"Taken,taken@example.com,\n"
    b"\n"  # 8
    b"Br\xffken,broken@example.com,\n"
    b'"Two\nlines",two@example.com,\n'  # 10 and 11
    b'"Forgotten,quote@example.com,\n'  # 12
    b"Nobody,nobody,\n"
    b"Few\n"  # 14
    b"Carl,carl@example.com,"
)
WRONG = {
    3: ("", "A cell must not begin like a formula; put an apostrophe before it"),
    6: ("/email", "User already exists"),
    7: ("/email", "User already exists"),
    9: ("", "The line is not valid UTF-8"),
    10: ("/name", "Name must not contain control characters"),
    12: ("", "The line is not valid CSV"),
    13: ("/email", "Email must be a valid e-mail address"),
    14: ("", "The line has 1 cells, the header has 3"),
}
RIGHT = {'Lovelace, "Ada"', "=SUM(A1)", "Bob", "Carl"}


def upload(client, data, content_type=NDJSON):
    response = client.post("/users/import", data=data, content_type=content_type)
    assert response.status_code == 202
    return UUID(response.json["id"])


def report(client, services, job_id):
    """Do all steps of a job and return what it says of itself."""
    while imports.run_import_step(services, job_id):
        pass
    return client.get(f"/jobs/{job_id}").json


def test_each_wrong_line_of_a_table_gets_its_error_and_the_others_are_imported(
    service_client, services, database
):
    make_user(database, email="taken@example.com", name="First")

    job = report(service_client, services, upload(service_client, TABLE, "text/csv"))
    errors = {each["line"]: (each["pointer"], each["reason"]) for each in job["errors"]}
    with database.connection() as connection:
        names = set(connection.scalars(select(User.name)))

    assert errors == WRONG
    assert (job["state"], job["created"], job["failed"]) == ("succeeded", len(RIGHT), len(WRONG))
    assert names == RIGHT | {"First"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"ada", "The line is not valid JSON"),
        (b"[1]", "The line must be a JSON object"),
        (b"{}", "Email is required"),
    ],
)
def test_a_refusal_speaks_of_the_line_and_not_of_the_request(
    service_client, services, line, reason
):
    job = report(service_client, services, upload(service_client, line))

    assert [each["reason"] for each in job["errors"]] == [reason]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_far_into_an_upload_is_known_by_its_number(service_client, services, end):
    # Blank lines are lines, and cost little; this is several pieces.
    blank = (b" " * 20 + end) * 70_000
    last = b'{"email": "ada@example.com", "name": "Ada"}'

    job_id = upload(service_client, blank + b'{"email": "\xff"}' + end + last)
    job = report(service_client, services, job_id)

    assert [(each["line"], each["reason"]) for each in job["errors"]] == [
        (70_001, "The line is not valid UTF-8")
    ]
    assert (job["state"], job["created"]) == ("succeeded", 1)


def test_of_many_refused_lines_the_first_are_kept_and_all_are_counted(
    service_client, services, database, monkeypatch
):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)
    monkeypatch.setattr(service, "SHOWN_ERRORS", 3)
    ada = b'{"email": "ada@example.com", "name": "Ada"}\n'

    job = report(service_client, services, upload(service_client, ada + (b"broken\n" + ada) * 50))
    with database.connection() as connection:
        kept = connection.scalars(select(JobError.line).order_by(JobError.line)).all()

    assert kept == [each["line"] for each in job["errors"]] == [2, 3, 4]
    assert (job["created"], job["failed"]) == (1, 100)


class Twice:
    """Parses as usual, and then reports each refused line twice, which cannot be stored."""

    def __init__(self, tasks):
        self._tasks = tasks

    def submit_cpu_task(self, function, *arguments):
        future = self._tasks.submit_cpu_task(function, *arguments)
        batch = future.result()
        batch.refusals.extend(list(batch.refusals))
        return future


def test_a_step_that_cannot_be_stored_whole_stores_nothing(service_client, services, database):
    data = b'broken\n{"email": "ada@example.com", "name": "Ada"}\n'
    job_id = upload(service_client, data)

    with pytest.raises(IntegrityError):
        imports.run_import_step(replace(services, tasks=Twice(services.tasks)), job_id)
    with database.connection() as connection:
        users = connection.scalar(select(func.count(User.id)))
        errors = connection.scalar(select(func.count(JobError.line)))
    job = service_client.get(f"/jobs/{job_id}").json
    again = report(service_client, services, job_id)

    assert (users, errors) == (0, 0)
    assert (job["state"], job["progress"]["done_bytes"]) == ("queued", 0)
    assert (again["state"], again["created"], again["failed"]) == ("succeeded", 1, 1)
