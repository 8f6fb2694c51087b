"""How an import goes on from piece to piece and from step to step."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from functools import partial
from operator import itemgetter

import pytest
from sqlalchemy import func, select

from benchmarks.imports import people
from chassis.background.outbox import OutboxMessage
from tests.support.deeds import deeds
from tests.support.orders import hold_everywhere
from userservice.jobs import exports, imports, queries, service, uploads
from userservice.jobs.models import JobState, UploadFormat
from userservice.users.models import User

LONG = 60.0


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 500)


def start(database, new):
    data = "".join(json.dumps(each) + "\n" for each in new).encode()
    return uploads.start_import(database, UploadFormat.NDJSON, [data]).id


def count(database, column):
    with database.connection() as connection:
        return connection.execute(select(func.count(column))).scalar_one()


class Counting:
    """Runs tasks as others do, and calls a function before one of them."""

    def __init__(self, tasks, number=0, call=None):
        self.tasks, self.number, self.call, self.count = tasks, number, call, 0

    def submit_cpu_task(self, function, *arguments):
        self.count += 1
        if self.count == self.number:
            self.call()
        return self.tasks.submit_cpu_task(function, *arguments)


def test_a_step_imports_piece_after_piece_while_its_time_lasts(services, database):
    job_id = start(database, people(100))
    tasks = Counting(services.tasks)

    is_done = imports.run_import_step(replace(services, tasks=tasks), job_id, seconds=LONG)

    job, refusals = service.get_job(database, job_id)
    assert (is_done, job.state, job.created, refusals) == (True, JobState.SUCCEEDED, 100, [])
    assert tasks.count > 10
    assert count(database, OutboxMessage.id) == 1  # the first step's


def test_a_step_whose_time_is_over_queues_the_next(services, database):
    job_id = start(database, people(100))

    imports.run_import_step(services, job_id, seconds=0)

    job, _ = service.get_job(database, job_id)
    assert job.state == JobState.RUNNING
    assert 0 < job.done_bytes < job.total_bytes
    assert job.created == count(database, User.id) > 0
    assert count(database, OutboxMessage.id) == 2


def test_a_job_is_over_or_cancelled_and_never_both(services):
    """A cancellation that waits for the end of the last step finds the job as that has left it."""
    database, job_ids = services.database, []

    def end(job):
        with database.transaction() as connection:
            if queries.lock_step(connection, job):
                queries.delete_chunks(connection, job.id)
                queries.update_job(connection, job.id, state=JobState.SUCCEEDED)

    def prepare():
        job_ids.append(start(database, people(1)))
        job, _ = service.get_job(database, job_ids[-1])
        return partial(end, job), partial(service.cancel_job, database, job.id)

    def check():
        job, _ = service.get_job(database, job_ids[-1])
        cancelled = [each.target for each in deeds(database, "import.cancelled")]
        assert (str(job.id) in cancelled) is (job.state == JobState.CANCELLED)
        states.add(job.state)

    states: set[str] = set()
    assert hold_everywhere(database, prepare, check) > 3
    assert JobState.SUCCEEDED in states


def test_what_was_read_when_a_job_is_cancelled_is_not_stored(services, database):
    job_id = start(database, people(100))
    cancelling = Counting(services.tasks, 3, lambda: service.cancel_job(database, job_id))

    is_done = imports.run_import_step(replace(services, tasks=cancelling), job_id, seconds=LONG)

    job, _ = service.get_job(database, job_id)
    assert is_done is True  # the first piece was stored; the third was read beside the second
    assert cancelling.count == 3
    assert (job.state, job.created) == (JobState.CANCELLED, count(database, User.id))
    assert 0 < job.created < 20


def test_a_step_that_fails_half_way_is_done_again_from_where_it_was(services, database):
    def fail():
        raise ConnectionError

    job_id = start(database, people(100))
    failing = replace(services, tasks=Counting(services.tasks, 5, fail))
    with pytest.raises(ConnectionError):
        imports.run_import_step(failing, job_id, seconds=LONG)
    before, _ = service.get_job(database, job_id)

    imports.run_import_step(services, job_id, seconds=LONG)

    job, refusals = service.get_job(database, job_id)
    assert 0 < before.created < 100
    assert (job.state, job.created, refusals) == (JobState.SUCCEEDED, 100, [])


@pytest.mark.parametrize("upload_format", list(UploadFormat))
def test_two_thousand_users_come_out_as_they_went_in(services, database, upload_format):
    new = people(2000)

    imports.run_import_step(services, start(database, new), seconds=LONG)
    text = b"".join(exports.export_users(database, upload_format)).decode()

    found = {
        UploadFormat.NDJSON: lambda: map(json.loads, text.splitlines()),
        UploadFormat.CSV: lambda: csv.DictReader(io.StringIO(text, newline="")),
    }[upload_format]()
    assert sorted(map(itemgetter(*new[0]), found)) == sorted(map(itemgetter(*new[0]), new))


def test_the_end_of_an_import_is_logged_once_with_its_counts(services, database, caplog):
    caplog.set_level("INFO", logger="userservice.jobs.imports")
    job_id = start(database, [*people(20), *people(1)])

    imports.run_import_step(services, job_id, seconds=LONG)

    [ended] = [record for record in caplog.records if record.message == "Import ended"]
    assert ended.job_id == str(job_id)
    assert (ended.state, ended.users, ended.refused) == (JobState.SUCCEEDED, 20, 1)
