"""A forgotten password: nobody learns whose address is known, by whatever instrument."""

from __future__ import annotations

import statistics
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import event, func, select

from chassis.background import outbox
from chassis.storage.database import DatabaseManager
from tests.conftest import make_app
from tests.support.factories import make_user
from tests.support.passwords import OLD, write
from userservice.passwords import recovery
from userservice.passwords.queries import NOBODY
from userservice.users import service as users_service

pytestmark = pytest.mark.integration

FORGOT = "/auth/password/forgot"
USERS = ("known", "spelt otherwise", "without a password")
KINDS = (*USERS, "unknown", "deleted", "suspended", "text")
# Values of these differ from request to request.
VARYING = ("X-Request-ID", "Date", "traceparent")
# Rounds of a measurement, of which one has to show no difference: others run on this machine.
ROUNDS = 5


@pytest.fixture
def app(config, counting):
    return make_app(config, counting)


@pytest.fixture
def addresses(services, user):
    """Kind -> an address of it."""
    deleted, suspended = (make_user(services.database, password=OLD) for _ in range(2))
    users_service.delete_user(services.database, deleted.id)
    write(services, suspended, suspended_at=datetime.now(UTC))
    return {
        "known": user.email,
        "spelt otherwise": f" {user.email.upper()}",
        "without a password": make_user(services.database).email,
        "unknown": "nobody.at.all@example.com",
        "deleted": deleted.email,
        "suspended": suspended.email,
        "text": "no address, é",
    }


@contextmanager
def noted(database):
    """Yield a list that takes in the statements of a block."""
    statements = []

    def note(_cursor, statement, *_rest):
        statements.append(statement)

    event.listen(database.engine, "do_execute", note)
    yield statements
    event.remove(database.engine, "do_execute", note)


def messages(services):
    with services.database.connection() as connection:
        asked = outbox.messages.c.topic == recovery.RECOVERY_REQUESTED
        rows = connection.execute(select(outbox.messages).where(asked).order_by("id"))
        return rows.all()


def visible(response):
    """Return all of an answer but for what differs each time."""
    headers = {name: value for name, value in response.headers if name not in VARYING}
    return response.status_code, headers, response.data


def test_the_answer_and_the_work_are_the_same_for_every_address(client, counting, addresses):
    seen = []

    for kind in KINDS:
        before = len(messages(counting))
        with noted(counting.database) as statements:
            answer = client.post(FORGOT, json={"email": addresses[kind]})
        rows = len(messages(counting)) - before
        work = (rows, counting.hasher.hashed, counting.hasher.verified)
        seen.append((visible(answer), work, statements))

    assert seen[0][0][0] == 202
    assert seen[0][0][2] == b""
    assert seen[0][1] == (1, 0, 0)
    assert len(seen[0][2]) == 1
    assert all(each == seen[0] for each in seen)


def test_the_message_names_the_user_or_nobody(client, services, addresses, user):
    found = {}
    for kind in KINDS:
        before = messages(services)
        client.post(FORGOT, json={"email": addresses[kind]})
        (message,) = (each for each in messages(services) if each not in before)
        assert set(message.payload) == {"user_id", "private"}
        found[kind] = UUID(message.payload["user_id"])

    assert found["known"] == found["spelt otherwise"] == user.id
    assert {kind for kind in KINDS if found[kind] != NOBODY} == set(USERS)


def test_the_metrics_of_the_web_process_count_the_same(client, addresses):
    """An ingress may let /metrics through."""

    def counts():
        # By hand: the parser takes seconds for all that the tests of this process have counted.
        lines = client.get("/metrics").text.splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {
            sample: float(value)
            for sample, _, value in samples
            if not sample.startswith(("process_", "python_"))
            and not sample.partition("{")[0].endswith(("_sum", "_bucket", "_created"))
        }

    grown = []
    for kind in KINDS:
        before = counts()
        client.post(FORGOT, json={"email": addresses[kind]})
        after = counts()
        grown.append({name: value - before.get(name, 0) for name, value in after.items()})

    changes = [{name: by for name, by in each.items() if by} for each in grown]
    assert any("auth/password/forgot" in sample for sample in changes[0])
    assert all(each == changes[0] for each in changes)


def test_medians_of_known_and_unknown_addresses_are_within_a_tenth(postgresql_url):
    with closing(DatabaseManager(postgresql_url).initialize()) as database:
        known = make_user(database, password=OLD).email
        unknown = known.replace("@", ".x@")
        differences = []

        for _ in range(ROUNDS):
            taken: dict[str, list[float]] = {known: [], unknown: []}
            for email in [known, unknown] * 500:
                began_at = time.perf_counter()
                recovery.ask_for_recovery(database, email)
                taken[email].append(time.perf_counter() - began_at)
            first, second = (statistics.median(each) for each in taken.values())
            differences.append(abs(first - second) / second)
            if differences[-1] < 0.1:
                break

    assert min(differences) < 0.1, differences


def limited(config, services, **limits):
    configured = replace(config, rate_limit_enabled=True, **limits)
    return make_app(configured, services).test_client()


@pytest.mark.parametrize("kind", ["known", "unknown"])
def test_beyond_the_limit_of_an_address_the_answer_is_the_same_without_a_row(
    config, services, addresses, kind
):
    client = limited(config, services, rate_limit_recovery="2/hour")
    spellings = [addresses[kind], addresses[kind].upper(), f"{addresses[kind]} "]

    answers = [client.post(FORGOT, json={"email": each}) for each in spellings]

    assert {each.status_code for each in answers} == {202}
    assert len(messages(services)) == 2
    limits = [
        {name: value for name, value in each.headers if "ratelimit" in name.lower()}
        for each in answers
    ]
    assert all('"recovery_client"' in each["RateLimit"] for each in limits)


def test_a_client_gets_429_and_no_row(config, services):
    client = limited(config, services, rate_limit_recovery_client="2/hour")

    answers = [client.post(FORGOT, json={"email": f"a{each}@b.example"}) for each in range(3)]

    assert [each.status_code for each in answers] == [202, 202, 429]
    assert answers[2].headers["Retry-After"]
    assert len(messages(services)) == 2


@pytest.mark.parametrize("body", [{}, {"email": None}, {"email": 7}, {"email": "x" * 321}, []])
def test_no_address_is_400_with_the_code_of_oauth(client, services, body):
    answer = client.post(FORGOT, json=body)

    assert answer.status_code == 400
    assert answer.json["error"] == "invalid_request"
    assert messages(services) == []


def test_a_row_of_an_older_release_is_found_by_its_spelling(services, client):
    """Rows of the release before have no key of the mailbox."""
    user = make_user(services.database, email="Ada@Example.com", password=OLD)
    write(services, user, mailbox_key=None)

    client.post(FORGOT, json={"email": "ADA@example.com"})

    assert UUID(messages(services)[0].payload["user_id"]) == user.id


def test_one_statement_stores_the_row_on_both_databases(database):
    database.ping()  # a new connection has statements of its own
    with noted(database) as statements:
        recovery.ask_for_recovery(database, "nobody@example.com")

    (statement,) = statements
    assert statement.startswith("INSERT INTO outbox_messages")
    assert "VALUES" in statement
    with database.connection() as connection:
        assert connection.scalar(select(func.count()).select_from(outbox.messages)) == 1
