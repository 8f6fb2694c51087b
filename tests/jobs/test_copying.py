"""Imports on PostgreSQL: copied as long as no address is taken, row by row where one is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, func, select, text

from benchmarks.imports import lines, people
from tests.support.factories import make_user
from tests.support.waiting import eventually
from userservice.jobs import imports, service, uploads
from userservice.jobs.models import JobState, UploadFormat
from userservice.users.models import User

pytestmark = pytest.mark.integration

BLOCKED = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
RENAMED = text("UPDATE users SET email_key = 'imported7@example7.com'")


@pytest.fixture
def database_url(postgresql_url):
    """The one kind of database that copies."""
    return postgresql_url


@pytest.fixture
def copies(services):
    """The COPY statements that are sent, including those that fail."""
    sent = []

    def note(_cursor, statement, *_rest):
        if statement.startswith("COPY"):
            sent.append(statement)

    event.listen(services.database.engine, "do_execute", note)
    return sent


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 2000)


def import_all(services, new):
    """Import users in one step; return the job and its refusals."""
    job_id = uploads.start_import(services.database, UploadFormat.NDJSON, [lines(new)]).id
    imports.run_import_step(services, job_id, seconds=60.0)
    return service.get_job(services.database, job_id)


def addresses(database):
    with database.connection() as connection:
        return sorted(connection.scalars(select(User.email)))


def test_new_users_are_copied_piece_by_piece(services, database, copies):
    job, refusals = import_all(services, people(100))

    assert (job.state, job.created, refusals) == (JobState.SUCCEEDED, 100, [])
    assert addresses(database) == sorted(each["email"] for each in people(100))
    assert len(copies) > 4


def test_a_file_that_is_imported_again_is_copied_in_vain_once(services, copies):
    import_all(services, people(100))
    copies.clear()

    job, refusals = import_all(services, people(100))

    assert (job.state, job.created, job.failed) == (JobState.SUCCEEDED, 0, 100)
    assert [each.line for each in refusals] == list(range(1, 101))
    assert len(copies) == 1


def test_a_piece_with_a_taken_address_loses_that_line_only(services, database, copies):
    make_user(database, email="IMPORTED7@example7.com")
    new = people(100)

    job, refusals = import_all(services, [*new, new[99]])

    assert [(each.line, each.pointer, each.reason) for each in refusals] == [
        (8, "/email", "User already exists"),
        (101, "/email", "User already exists"),
    ]
    assert job.created == 99
    assert len(addresses(database)) == 100
    assert len(copies) > 3  # of the pieces between the two


def test_an_address_that_is_taken_while_its_piece_is_copied_is_refused(services, database):
    make_user(database)

    with ThreadPoolExecutor(1) as thread:
        with database.transaction() as connection:
            connection.execute(RENAMED)
            importing = thread.submit(import_all, services, people(20))
            with database.connection() as watching:
                eventually(lambda: watching.scalar(BLOCKED))
        job, refusals = importing.result()

    assert [(each.line, each.reason) for each in refusals] == [(8, "User already exists")]
    assert (job.state, job.created) == (JobState.SUCCEEDED, 19)
    with database.connection() as connection:
        assert connection.scalar(select(func.count(User.id))) == 20


@pytest.mark.parametrize(
    "name", ["\\N", "\\.", "a\\tb\\", "'; --", '"', "%s {0}", "\U0001f600 Zo\u00eb"]
)
def test_a_name_that_means_something_to_a_database_is_a_name(services, database, name):
    import_all(services, [{"email": "ada@example.com", "name": name}])

    with database.connection() as connection:
        assert connection.scalar(select(User.name)) == name
