"""New passwords during a rollout and after a rollback: no release undoes what the other did."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import open_backing_services
from chassis.links import InvalidLink
from chassis.security import fingerprint
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.background.test_delivery import delivering, stored
from tests.support.factories import CHEAP_HASHER, begin_log_in, make_user
from tests.support.passwords import NEW, OLD, change, make_token, reset
from tests.support.waiting import eventually
from userservice.passwords import recovery, service
from userservice.resources import EVENT_HANDLERS
from userservice.users import links, registration
from userservice.users.links import Purpose

pytestmark = pytest.mark.integration

CONFIG = AppConfig()
FILE = Path(__file__).resolve().parent / "0007.sql"
ADDRESS = "'ada@example.com'"
ID = re.compile(r"'[0-9a-f-]{36}'")
HASH = re.compile(r"'[0-9a-f]{64}'")


@pytest.fixture
def services(postgresql_url):
    with closing(DatabaseManager(postgresql_url).initialize()) as database:
        opened = open_backing_services(CONFIG)
        yield replace(opened, database=database, hasher=CHEAP_HASHER)


@pytest.fixture
def user(services):
    return make_user(services.database, password=OLD)


def do_as_before(services, beginning, user, token_hash=""):
    """Send the first recorded statement that begins so, about another user; return its result."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    recorded = next(line for line in lines if line.startswith(beginning)).rstrip(";")
    about = ID.sub(f"'{user.id}'", HASH.sub(f"'{token_hash}'", recorded))
    with services.database.connection() as connection:
        result = connection.exec_driver_sql(about.replace(ADDRESS, f"'{user.email}'"))
        return result.rowcount, (result.all() if result.returns_rows else [])


def set_in_all_ways(services, user):
    change(services, user)
    reset(services, make_token(services, user), OLD)
    service.set_password(services, user.id, NEW)


def test_the_release_before_logs_in_with_the_password_that_this_one_set(services, user):
    set_in_all_ways(services, user)

    _, [found] = do_as_before(services, "SELECT users.id, users.password_hash, users.email", user)
    _, [locked] = do_as_before(services, "SELECT users.id, users.password_hash FROM", user)

    assert CHEAP_HASHER.verify(found.password_hash, NEW)
    assert locked.password_hash == found.password_hash


@pytest.mark.parametrize("way", ["change", "reset", "set"])
def test_the_release_before_renews_no_log_in_that_a_new_password_ended(services, user, way):
    pair = begin_log_in(services.database, CONFIG, user)
    token_hash = fingerprint(pair.refresh_token.encode())

    if way == "change":
        change(services, user)
    elif way == "reset":
        reset(services, make_token(services, user))
    else:
        service.set_password(services, user.id, NEW)

    assert do_as_before(services, "UPDATE refresh_tokens", user, token_hash)[0] == 0


def test_a_user_whom_the_release_before_deleted_has_no_link(services, user):
    token = make_token(services, user)

    changed, _ = do_as_before(services, "UPDATE users SET status='deleted'", user)

    assert changed == 1
    with pytest.raises(InvalidLink):
        reset(services, token)


def test_a_name_that_the_release_before_changed_spoils_no_link(services, user):
    token = make_token(services, user)

    changed, _ = do_as_before(services, "UPDATE users SET name=", user)
    links.check_link(services, token, Purpose.RESET)
    reset(services, token)

    assert changed == 1


def test_the_release_before_reads_a_user_with_all_that_is_new(services, user):
    set_in_all_ways(services, user)
    make_token(services, user)

    _, [row] = do_as_before(services, "SELECT users.id, users.email, users.name, users.st", user)

    assert (row.id, row.email, row.status) == (user.id, user.email, "active")


def test_what_a_worker_of_the_release_before_cannot_send_goes_out_with_ours(services, user):
    known = {registration.USER_REGISTERED: EVENT_HANDLERS[registration.USER_REGISTERED]}
    recovery.ask_for_recovery(services.database, user.email)

    def about_passwords():
        return stored(services.database, topic=recovery.RECOVERY_REQUESTED)

    with delivering(services, known):
        eventually(lambda: about_passwords()[0].last_error)
    (waiting,) = about_passwords()
    with delivering(services, EVENT_HANDLERS):
        eventually(lambda: about_passwords()[0].status != "queued")

    assert (waiting.status, waiting.last_error) == ("queued", "KeyError")
    assert about_passwords()[0].status == "skipped"  # there is no provider here
