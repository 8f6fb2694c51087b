"""cleanup: what is no longer needed goes, and nothing else."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import func, insert, select, update

from admin import AdminCommands, cli
from chassis.security import random_token
from chassis.storage import idempotency
from chassis.storage.ids import uuid7
from tests.support.factories import make_user
from userservice.jobs import queries as jobs
from userservice.jobs import service as jobs_service
from userservice.jobs.queries import JobRow
from userservice.logins import queries as tokens
from userservice.resources import PURGES
from userservice.users import queries as users
from userservice.users import service

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

# The rows of a table that has nothing to purge; a resource of a clone may have more such tables.
NONE = re.compile(r"\b0 [\w ]+, ")


@pytest.fixture
def commands(config, services):
    return AdminCommands(config, services)


@pytest.fixture
def run(commands):
    """Run the command with arguments and return what it prints."""

    def run(*arguments):
        result = CliRunner().invoke(cli, ["cleanup", *arguments], obj=commands)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def filled(database):
    """Two rows of each kind that are due, and one that is not."""
    now = datetime.now(UTC)
    for age in (32 * DAY, 31 * DAY, 29 * DAY):
        user = make_user(database)
        service.delete_user(database, user.id)
        with database.connection() as connection:
            connection.execute(
                update(users.users).where(users.users.c.id == user.id).values(updated_at=now - age)
            )
    owner = make_user(database)
    with database.transaction() as connection:
        for lifetime in (-DAY, -MINUTE, MINUTE):
            tokens.insert_token(
                connection,
                random_token(),
                tokens.LogIn(owner.id, uuid7(), None),
                lifetime=lifetime,
                is_successor=False,
            )
        for age in (2 * DAY, DAY + MINUTE, DAY - MINUTE):
            row = {"id": random_token(), "request_hash": "", "answer": "", "created_at": now - age}
            connection.execute(insert(idempotency.keys), row)


def rows(database):
    """Return table -> number of rows."""
    tables = (idempotency.keys, tokens.tokens, users.users)
    with database.connection() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in tables
        }


@pytest.mark.usefixtures("filled")
def test_what_is_due_is_purged_and_the_rest_stays(run, database):
    printed = run()

    assert NONE.sub("", printed) == "Purged 2 idempotency keys, 2 refresh tokens, 2 users\n"
    assert rows(database) == {"idempotency_keys": 1, "refresh_tokens": 1, "users": 2}


@pytest.mark.usefixtures("filled")
def test_a_second_time_there_is_nothing_left(run):
    run()

    assert NONE.sub("", run()) == "Purged 0 users\n"


@pytest.mark.usefixtures("filled")
def test_a_dry_run_counts_and_touches_nothing(run, database):
    before = rows(database)

    printed = run("--dry-run")

    assert NONE.sub("", printed) == "Would purge 2 idempotency keys, 2 refresh tokens, 2 users\n"
    assert rows(database) == before


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=str)
def test_machines_may_read_the_counts(run, arguments):
    printed = json.loads(run("--json", *arguments))

    assert printed.pop("dry_run") is bool(arguments)
    assert printed.keys() == PURGES.keys()
    assert {table: count for table, count in printed.items() if count} == {
        "idempotency_keys": 2,
        "refresh_tokens": 2,
        "users": 2,
    }


@pytest.mark.usefixtures("filled")
def test_the_days_are_those_since_users_were_deleted(run, database):
    run("--days", "0")

    assert rows(database) == {"idempotency_keys": 1, "refresh_tokens": 1, "users": 1}


def test_the_tokens_of_a_user_go_with_the_user(run, database):
    user = make_user(database)
    service.delete_user(database, user.id)
    with database.connection() as connection:  # as a release does that leaves them behind
        tokens.insert_token(
            connection,
            random_token(),
            tokens.LogIn(user.id, uuid7(), None),
            lifetime=DAY,
            is_successor=False,
        )

    run("--days", "0")

    assert rows(database) == {"idempotency_keys": 0, "refresh_tokens": 0, "users": 0}


@pytest.mark.usefixtures("filled")
def test_the_progress_adds_up_to_what_was_counted(commands):
    counted = commands.count_old_data()
    steps: list[int] = []

    purged = commands.cleanup_old_data(advance=steps.append)

    assert purged == counted
    assert sum(steps) == sum(counted.values()) == 6


def store_job(database, state, age):
    """Store a job in which nothing has happened for a while, with a piece of its upload."""
    then = datetime.now(UTC) - age
    job = JobRow(uuid7(), "import", "ndjson", state, 1, 0, 1, 0, 0, None, None, then, then)
    with database.transaction() as connection:
        connection.execute(insert(jobs.jobs), job._asdict())
        jobs.insert_chunk(connection, job.id, 0, b"x")
    return job.id


def count_jobs(database):
    """Return how many jobs there are, and how many pieces of uploads."""
    with database.connection() as connection:
        return tuple(
            connection.scalar(select(func.count()).select_from(table))
            for table in (jobs.jobs, jobs.chunks)
        )


@pytest.mark.parametrize(
    ("state", "age"),
    [
        ("succeeded", 31 * DAY),
        ("failed", 31 * DAY),
        ("cancelled", 31 * DAY),
        ("uploading", DAY + MINUTE),  # nobody sends for so long
    ],
)
def test_jobs_that_are_over_go_with_their_uploads(run, database, state, age):
    store_job(database, state, age)

    counted = json.loads(run("--dry-run", "--json"))["jobs"]
    run()

    assert counted == 1
    assert count_jobs(database) == (0, 0)


@pytest.mark.parametrize(
    ("days", "state", "age"),
    [
        ("30", "succeeded", 29 * DAY),
        ("0", "queued", 31 * DAY),
        ("0", "running", MINUTE),
        ("0", "uploading", MINUTE),
    ],
)
def test_jobs_that_go_on_stay(run, database, days, state, age):
    store_job(database, state, age)

    counted = json.loads(run("--days", days, "--dry-run", "--json"))["jobs"]
    run("--days", days)

    assert counted == 0
    assert count_jobs(database) == (1, 1)


def test_rows_are_purged_in_batches_of_their_own(database):
    now = datetime.now(UTC)
    row = {"request_hash": "", "answer": "", "created_at": now - 2 * DAY}
    with database.transaction() as connection:
        connection.execute(insert(idempotency.keys), [row | {"id": str(n)} for n in range(1001)])

    batches = idempotency.purge_expired_keys(database)

    assert next(batches) == 1000
    assert rows(database)["idempotency_keys"] == 1
    assert list(batches) == [1]


def test_few_jobs_go_at_a_time_because_of_their_uploads(database):
    for _ in range(25):
        store_job(database, state="failed", age=40 * DAY)

    sizes = list(jobs_service.purge_old_jobs(database, before=datetime.now(UTC) - 30 * DAY))

    assert sum(sizes) == 25
    assert max(sizes) <= 10
    assert count_jobs(database) == (0, 0)
