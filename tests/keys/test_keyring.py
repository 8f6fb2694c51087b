"""The keys that a process remembers, for how long, and the statements that this spares."""

from __future__ import annotations

import secrets
import threading
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event

from chassis.storage.clock import read_time
from tests.conftest import API_KEY, make_app
from tests.support.clock import Clock
from tests.support.factories import make_user
from tests.support.keys import expire, key_header, make_key, set_key
from userservice.keys import keyring as module
from userservice.keys import metrics
from userservice.keys.keyring import Keyring
from userservice.keys.service import revoke_key
from userservice.scopes import Scope

LIFETIME = timedelta(seconds=5)
RANDOM = 5000


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keyring(database, clock):
    return Keyring(database, LIFETIME, clock)


@contextmanager
def statements(database):
    """Collect the statements that are sent meanwhile."""
    seen = []

    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    event.listen(database.engine, "do_execute", note)
    yield seen
    event.remove(database.engine, "do_execute", note)


def some_key():
    return f"cua_{secrets.token_hex(16)}_{secrets.token_urlsafe(32)}"


MALFORMED = {
    "nothing": "",
    "a key of the environment": API_KEY,
    "another prefix": some_key().replace("cua_", "cub_"),
    "no id": f"cua__{secrets.token_urlsafe(32)}",
    "letters of another case in the id": f"cua_{'A' * 32}_{'a' * 43}",
    "a digit less": some_key()[:-1],
    "a digit more": some_key() + "a",
    "a line end": some_key() + "\n",
    "digits of another script": f"cua_{'٣' * 32}_{'a' * 43}",
    "a sign": some_key()[:-1] + "=",
    "a NUL": some_key()[:-1] + "\x00",
}


@pytest.mark.parametrize("key", MALFORMED.values(), ids=MALFORMED)
def test_a_text_that_is_no_key_is_looked_up_nowhere(database, keyring, key):
    with statements(database) as seen:
        assert keyring.find(key) is None

    assert seen == []


def test_a_key_that_holds_is_looked_up_once_in_its_time(database, keyring, clock):
    made = make_key(database, Scope.USERS_READ, Scope.USERS_WRITE)

    with statements(database) as seen:
        found = [keyring.find(made.key) for _ in range(3)]
        clock.now += 4.999
        found.append(keyring.find(made.key))
        assert len(seen) == 1
        clock.now += 0.001
        found.append(keyring.find(made.key))

    assert len(seen) == 2
    assert {each.id for each in found} == {made.row.id.hex}
    assert {each.scopes for each in found} == {frozenset({"users:read", "users:write"})}


def test_without_a_lifetime_nothing_is_remembered(database, clock):
    keyring = Keyring(database, timedelta(0), clock)
    made = make_key(database, Scope.USERS_READ)

    with statements(database) as seen:
        assert keyring.find(made.key)
        assert keyring.find(made.key)

    assert (len(seen), len(keyring)) == (2, 0)


def test_a_revoked_key_holds_elsewhere_for_its_time_and_no_longer(database, keyring, clock):
    made = make_key(database, Scope.USERS_READ)
    assert keyring.find(made.key)

    revoke_key(database, made.row.id)

    clock.now += 4.999
    assert keyring.find(made.key)
    clock.now += 0.001
    assert keyring.find(made.key) is None


def test_a_key_ends_here_when_it_is_forgotten(database, keyring):
    made, other = make_key(database, Scope.USERS_READ), make_key(database, Scope.USERS_READ)
    assert keyring.find(made.key)
    assert keyring.find(other.key)

    revoke_key(database, made.row.id)
    keyring.forget(made.row.id.hex)

    with statements(database) as seen:
        assert keyring.find(made.key) is None
        assert keyring.find(other.key)
    assert len(seen) == 1


def test_a_look_up_that_a_revocation_overtook_is_not_remembered(database, keyring):
    """The row was read before the revocation, and would be remembered after it."""
    made = make_key(database, Scope.USERS_READ)
    held, go_on = threading.Event(), threading.Event()

    def hold(_cursor, statement, _values, _context):
        if "api_keys.key_hash" in statement and threading.current_thread() is reader:
            held.set()
            assert go_on.wait(60)

    reader = threading.Thread(target=keyring.find, args=(made.key,))
    event.listen(database.engine, "do_execute", hold)
    reader.start()
    assert held.wait(60)
    keyring.forget(made.row.id.hex)
    go_on.set()
    reader.join(60)
    event.remove(database.engine, "do_execute", hold)

    assert len(keyring) == 0


def test_a_key_ends_by_the_clock_of_the_database_also_while_it_is_remembered(
    database, keyring, clock
):
    made = make_key(database, Scope.USERS_READ)
    with database.connection() as connection:
        now = read_time(connection)
    set_key(database, made, expires_at=now + timedelta(seconds=4))

    assert keyring.find(made.key)
    clock.now += 4  # a bit of the four seconds was over before the look-up
    with statements(database) as seen:
        keyring.find(made.key)

    assert len(seen) == 1


@pytest.mark.parametrize("end", ["unknown", "expired", "revoked", "another secret"])
def test_all_keys_that_do_not_hold_cost_the_same_statement(database, keyring, end):
    made = make_key(database, Scope.USERS_READ)
    assert keyring.find(made.key)  # remembered, and then it ends
    key = {"unknown": some_key(), "another secret": f"{made.key[:37]}{'a' * 43}"}.get(end, made.key)
    if end == "expired":
        expire(database, made)
    if end == "revoked":
        revoke_key(database, made.row.id)
    keyring.forget(made.row.id.hex)

    with statements(database) as seen:
        assert [keyring.find(key) for _ in range(3)] == [None] * 3

    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert len(keyring) == 0


def test_as_many_keys_as_there_may_be_are_remembered_and_the_longest_unused_goes(
    database, clock, monkeypatch
):
    monkeypatch.setattr(module, "MOST_KNOWN", 3)
    keyring = Keyring(database, LIFETIME, clock)
    made = [make_key(database, Scope.USERS_READ) for _ in range(4)]
    for each in (*made[:3], made[0], made[3]):
        assert keyring.find(each.key)

    with statements(database) as seen:
        for each in (made[0], made[2], made[3]):
            keyring.find(each.key)
        assert seen == []
        keyring.find(made[1].key)

    assert (len(seen), len(keyring)) == (1, 3)


def test_random_keys_leave_nothing(keyring):
    for _ in range(100):  # what is made once
        keyring.find(some_key())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    for _ in range(RANDOM):
        assert keyring.find(some_key()) is None

    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(keyring) == 0
    assert after - before < 8 * RANDOM  # less than a pointer for each


def test_threads_that_come_together_are_all_let_in(database):
    keyring = Keyring(database, LIFETIME)
    made = make_key(database, Scope.USERS_READ)
    found, together = [], threading.Barrier(8)

    def ask():
        together.wait(60)
        for _ in range(50):
            found.append(keyring.find(made.key))
            keyring.forget(made.row.id.hex)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)

    assert [each and each.id for each in found] == [made.row.id.hex] * 400


# Over HTTP


@pytest.mark.parametrize("seconds", [0, 5])
def test_a_user_is_read_with_one_statement_and_a_key_with_one_more_in_its_time(
    config, services, database, seconds
):
    app = make_app(replace(config, key_cache_seconds=seconds), services)
    client, user = app.test_client(), make_user(database)
    path, made = f"/users/{user.id}", make_key(database, Scope.USERS_READ)

    def count(headers):
        with statements(services.database) as seen:
            assert client.get(path, headers=headers).status_code == 200
        return len(seen)

    count({"X-API-Key": API_KEY})  # opens the connection
    assert [count({"X-API-Key": API_KEY}) for _ in range(2)] == [1, 1]
    expected = [2, 1, 1] if seconds else [2, 2, 2]
    assert [count(key_header(made)) for _ in range(3)] == expected


def test_the_keys_that_are_counted_one_by_one_are_bounded(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_COUNTED", 2)
    labels = metrics.Labels()

    assert [labels.choose(each) for each in "abcab"] == ["a", "b", "other", "a", "b"]
