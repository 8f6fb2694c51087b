"""admin check --deploy: the keys that an operator should look at."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from chassis.storage.database import DatabaseManager
from tests.support.factories import make_user
from tests.support.keys import expire, make_key, secret_of, set_key
from userservice.keys.checks import MOST_NAMED, check_keys
from userservice.keys.service import revoke_key
from userservice.scopes import Scope
from userservice.users import service
from userservice.users.queries import users

LATER = "2999-01-01T00:00:00Z"


def make(database, maker=None, **values):
    made = make_key(database, Scope.USERS_READ, **({"expires_at": LATER} | values))
    set_key(database, made, created_by=maker)
    return made


def failed(database):
    """Return check -> advice of the findings that did not pass."""
    return {each.check: each.advice for each in check_keys(database) if not each.passed}


def test_keys_that_end_and_were_made_by_who_may_are_none_to_look_at(database):
    superuser = make_user(database, is_superuser=True)
    first = make(database, str(superuser.id))
    for maker in (None, "environment", first.row.id.hex):
        make(database, maker)

    assert failed(database) == {}
    assert [each.check for each in check_keys(database)] == [
        *("orphaned_keys", "endless_keys", "expired_keys"),
    ]


ENDS = {
    "demoted": lambda database, user: set_user(database, user, is_superuser=False),
    "suspended": lambda database, user: set_user(database, user, suspended_at=user.created_at),
    "deleted": lambda database, user: service.delete_user(database, user.id),
}


def set_user(database, user, **values):
    with database.connection() as connection:
        connection.execute(update(users).where(users.c.id == user.id).values(values))


@pytest.mark.parametrize("end", ENDS)
def test_keys_whose_maker_is_no_superuser_any_more_are_named_also_through_other_keys(database, end):
    make_user(database, is_superuser=True, password="correct horse battery")
    superuser = make_user(database, is_superuser=True)
    first = make(database, str(superuser.id), name="first")
    second = make(database, first.row.id.hex, name="second")
    make(database, name="an operator's")
    revoke_key(database, first.row.id)

    ENDS[end](database, superuser)

    found = failed(database)
    assert found.keys() == {"orphaned_keys"}
    assert found["orphaned_keys"].endswith(f": {second.row.id.hex} (second)")


def test_keys_that_never_end_or_have_ended_are_notes(database):
    endless, expired = make(database, expires_at=None), make(database)
    expire(database, expired)

    found = {each.check: each for each in check_keys(database) if not each.passed}

    assert found.keys() == {"endless_keys", "expired_keys"}
    assert all(each.is_note for each in found.values())
    assert endless.row.id.hex in found["endless_keys"].advice
    assert expired.row.id.hex in found["expired_keys"].advice
    assert secret_of(endless.key) not in found["endless_keys"].advice


def test_of_many_keys_some_are_named(database):
    for _ in range(MOST_NAMED + 2):
        make(database, expires_at=None)

    assert failed(database)["endless_keys"].endswith(" and 2 more")


def test_without_a_schema_or_a_database_others_say_so(empty_database, tmp_path):
    assert [*check_keys(empty_database)] == []
    absent = DatabaseManager(f"sqlite:///{tmp_path}/absent/app.db").initialize()
    assert [*check_keys(absent)] == []
    absent.close()
