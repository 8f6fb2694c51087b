"""Several workers, of which one dies, and a queue that does and forgets everything."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager

import pytest
import redis as redis_library
from sqlalchemy import func, select

from chassis.background import outbox
from chassis.storage.database import DatabaseManager
from tests.support.factories import make_user
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from userservice.jobs import service as jobs
from userservice.jobs import uploads
from userservice.jobs.models import UploadFormat
from userservice.users.models import User

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUEUE = "dramatiq:outbox"
MAILS = 240
# Five lines of such a length are a piece of an import.
PADDING = "x" * 52_000
LINES = 40
# An import, whose lines have passwords, takes seconds.
SLOW = {"WORKER_CONCURRENCY": "1", "PASSWORD_TIME_COST": "12"}
FAST = SLOW | {"PASSWORD_TIME_COST": "1", "PASSWORD_MEMORY_KIB": "8"}


@pytest.fixture
def database(postgresql_server):
    """The database as the test looks at it."""
    manager = DatabaseManager(postgresql_server.url).initialize()
    yield manager
    manager.close()


@pytest.fixture
def queue_server():
    """A Redis server of this test's own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def queue(queue_server):
    """A client of that server."""
    client = redis_library.Redis.from_url(queue_server.url)
    yield client
    client.close()


def enqueue_mails(database, number):
    """Queue as many e-mails and return the keys they must arrive with."""
    user = make_user(database)
    rows = [
        outbox.new_message("user.registered", {"user_id": str(user.id)}) for _ in range(number - 1)
    ]
    ids = select(outbox.messages.c.id).where(outbox.messages.c.topic == "user.registered")
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
        return {str(each) for each in connection.scalars(ids)}


def start_import(database):
    """Queue an import of several pieces and return the id of its job."""
    row = {"name": "Ada", "password": "a long enough sentence", "ignored": PADDING}
    rows = (row | {"email": f"imported-{number}@example.com"} for number in range(LINES))
    upload = "".join(json.dumps(each) + "\n" for each in rows).encode()
    return uploads.start_import(database, UploadFormat.NDJSON, [upload]).id


def read_job(database, job_id):
    return jobs.get_job(database, job_id)[0]


def is_under_way(database, job_id):
    return read_job(database, job_id).done_bytes > 0


def assert_imported_once(database, job_id):
    job, refusals = jobs.get_job(database, job_id)
    imported = select(func.count()).where(User.email.like("imported-%"))
    with database.connection() as connection:
        stored = connection.scalar(imported)
    assert (job.state, job.created, job.failed, refusals) == ("succeeded", LINES, 0, [])
    assert stored == LINES


@contextmanager
def losing_everything(server):
    """Let a Redis server crash, and come back empty at the end of the block."""
    server.stop(immediate=True)
    shutil.rmtree(server.folder / "appendonlydir")
    yield
    server.start()


def test_nothing_is_lost_when_the_queue_dies_and_comes_back_empty(
    deployment, database, provider, queue_server, queue
):
    provider.limit = MAILS // 3  # leaves most for later, however long it takes to kill the queue
    variables = SLOW | {"TASK_ENGINE": "dramatiq", "REDIS_URL": queue_server.url}
    variables |= {"EMAIL_TIMEOUT_SECONDS": "8", "OUTBOX_LEASE_SECONDS": "10"}
    workers = [deployment.worker(**variables) for _ in range(3)]
    for worker in workers:
        worker.await_ready()
    job_id = start_import(database)
    keys = enqueue_mails(database, MAILS)
    eventually(lambda: queue.zcard("dramatiq:__heartbeats__") == len(workers))
    eventually(lambda: is_under_way(database, job_id))
    eventually(lambda: len(provider.taken) >= MAILS // 3 and queue.llen(QUEUE))

    with losing_everything(queue_server):
        sent, left = len(provider.taken), read_job(database, job_id)
        eventually(lambda: all(worker.logged("The queue is away") for worker in workers))
    provider.limit = None
    eventually(lambda: {mail.key for mail in provider.taken} >= keys)
    eventually(lambda: read_job(database, job_id).state == "succeeded")
    eventually(lambda: queue.zcard("dramatiq:__heartbeats__") == len(workers))

    assert sent < MAILS
    assert left.state == "running"
    assert {mail.key for mail in provider.attempts} == keys
    assert len(keys) == MAILS
    assert_imported_once(database, job_id)
    for worker in workers:
        assert worker.is_alive
        assert worker.errors == []
        assert len([line for line in worker.logged("") if "dramatiq" in line["logger"]]) <= 1


@pytest.mark.parametrize("engine", ["local", "dramatiq"])
def test_an_import_goes_on_where_a_killed_worker_left_it(
    deployment, database, queue_server, engine
):
    variables = {"TASK_ENGINE": engine, "REDIS_URL": queue_server.url}
    first = deployment.worker(**variables, **SLOW)
    job_id = start_import(database)
    eventually(lambda: is_under_way(database, job_id))

    first.kill()
    left = read_job(database, job_id)
    second = deployment.worker(**variables, **FAST)
    eventually(lambda: read_job(database, job_id).state == "succeeded")

    assert left.state == "running"
    assert second.errors == []
    assert_imported_once(database, job_id)


def test_ids_that_a_killed_worker_had_taken_from_the_queue_are_sent_by_another(
    deployment, database, provider, queue_server
):
    variables = FAST | {"TASK_ENGINE": "dramatiq", "REDIS_URL": queue_server.url}
    provider.delay_seconds = 0.5
    keys = enqueue_mails(database, 40)
    first = deployment.worker(**variables)
    eventually(lambda: provider.taken)

    first.kill()
    provider.delay_seconds = 0.0
    deployment.worker(**variables)
    eventually(lambda: {mail.key for mail in provider.taken} >= keys)

    assert {mail.key for mail in provider.attempts} == keys
