"""The key of mailboxes beside a release that knows none, and for the rows it wrote."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest
from alembic import command
from click.testing import CliRunner
from sqlalchemy import select, text

from admin import AdminCommands, cli
from chassis.storage import migrations
from chassis.storage.audit import events
from chassis.storage.ids import uuid7
from tests.support.deeds import deeds
from tests.support.factories import CHEAP_HASHER, make_user
from tests.support.orders import hold_everywhere
from userservice.users import credentials, mailboxes, mailboxes_queries, queries, service
from userservice.users.addresses import fold, mailbox_key
from userservice.users.errors import EmailTaken
from userservice.users.models import LATER, Status
from userservice.users.schemas import UserUpdate

U_LABEL, A_LABEL = "ida@bücher.example.com", "ida@xn--bcher-kva.example.com"
WIDE, PLAIN = "ada@\uff45xample.com", "ada@example.com"
BEFORE = "0005"
# The columns that the release before knows.
OLD = [each for each in queries.users.c if each.name not in {"mailbox_key", *LATER}]


def old_user(database, email, **values):
    """Store a user as the release before does; return the id."""
    now = datetime.now(UTC)
    row = {
        "id": uuid7(),
        "email": email,
        "email_key": fold(email),
        "name": "Old",
        "status": "active",
        "signup_source": "web",
        "tier": "free",
        "is_superuser": False,
        "password_hash": None,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    } | values
    with database.connection() as connection:
        connection.execute(queries.users.insert().values({each: row[each.name] for each in OLD}))
    return row["id"]


def keys(database):
    """Return id -> key of the mailbox."""
    with database.connection() as connection:
        rows = connection.execute(select(queries.users.c.id, queries.users.c.mailbox_key))
        return dict(rows.all())


def logs_in(database, email):
    """Return id and password hash of the user that an address logs in."""
    user = credentials.find_credentials(database, email)
    return None if user is None else (user.id, user.password_hash)


def found(database, email):
    users = service.list_users(database, status=Status.ACTIVE, email=email, after=None, limit=10)
    return [each.id for each in users]


@pytest.fixture
def old_database(empty_database):
    """A database with the schema of the release before."""
    with migrations.migrating(empty_database) as connection:
        command.upgrade(migrations.alembic_config(connection), BEFORE)
    return empty_database


def test_migrating_gives_a_key_to_users_whose_address_has_several_spellings(old_database):
    ida, wide = old_user(old_database, U_LABEL), old_user(old_database, WIDE)
    grace = old_user(old_database, "grace@example.com")

    migrations.upgrade(old_database)

    assert keys(old_database) == {ida: A_LABEL, wide: PLAIN, grace: None}
    for email, owner in ((A_LABEL, ida), (PLAIN, wide), ("GRACE@example.com", grace)):
        assert found(old_database, email) == [owner]
        with pytest.raises(EmailTaken):
            make_user(old_database, email=email)


@pytest.mark.parametrize(("one", "other"), [(U_LABEL, A_LABEL), (WIDE, PLAIN), (PLAIN, WIDE)])
def test_migrating_loses_no_user_who_shares_a_mailbox_and_names_them(
    old_database, caplog, one, other
):
    hashes = {each: CHEAP_HASHER.hash(each) for each in (one, other)}
    ids = {each: old_user(old_database, each, password_hash=hashes[each]) for each in (one, other)}

    with caplog.at_level(logging.WARNING):
        migrations.upgrade(old_database)

    (line,) = [each for each in caplog.records if "mailbox" in each.getMessage()]
    assert set(line.user_ids) < set(map(str, ids.values()))
    assert line.users == 1
    for email in (one, other):  # each logs in by the spelling of the registration
        assert logs_in(old_database, email) == (ids[email], hashes[email])
        assert ids[email] in found(old_database, email)


def test_migrating_goes_on_where_a_first_attempt_stopped(old_database):
    ida = old_user(old_database, U_LABEL)
    migrations.move(old_database, "0006", may_revert=False)
    with old_database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": BEFORE})

    migrations.upgrade(old_database)

    assert keys(old_database) == {ida: A_LABEL}


@pytest.mark.parametrize(
    ("typed", "other"), [(U_LABEL, A_LABEL), (PLAIN, WIDE), (A_LABEL, U_LABEL)]
)
def test_a_user_of_the_release_that_runs_beside_ours_is_found_by_any_spelling(
    database, typed, other
):
    user = old_user(database, typed)

    assert found(database, other) == found(database, typed) == [user]
    assert logs_in(database, typed) == (user, None)


@pytest.mark.parametrize("email", [U_LABEL, PLAIN, "ÄRZTE@example.com"])
def test_the_release_that_runs_beside_ours_finds_our_users_as_people_spell_them(database, email):
    user = make_user(database, email=email)

    with database.connection() as connection:
        key = connection.scalar(select(queries.users.c.email_key))

    assert key == fold(email)
    assert user.id is not None


def test_an_address_that_the_release_beside_ours_has_changed_names_nobody(database):
    user = make_user(database, email=U_LABEL)
    change = {"email": PLAIN, "email_key": PLAIN}  # it does not know the other key
    with database.connection() as connection:
        connection.execute(queries.users.update().values(change))

    assert logs_in(database, U_LABEL) is None
    assert logs_in(database, PLAIN) == (user.id, None)


def test_the_command_gives_keys_and_names_who_shares_a_mailbox(config, services, database):
    first, second = old_user(database, U_LABEL), old_user(database, A_LABEL)
    third = old_user(database, PLAIN)
    commands = AdminCommands(config, services)

    result = CliRunner().invoke(cli, ["mailboxes"], obj=commands)
    as_json = CliRunner().invoke(cli, ["mailboxes", "--json"], obj=commands)

    assert result.exit_code == as_json.exit_code == 1
    assert result.stdout.splitlines() == [
        f"User {second} shares the mailbox of {first}",
        "Gave 2 users a key, 1 share a mailbox",
    ]
    assert json.loads(as_json.stdout) == {
        "keys": 0,
        "shared": [{"user": str(second), "owner": str(first)}],
    }
    assert keys(database) == {first: A_LABEL, second: None, third: PLAIN}


def test_when_no_mailbox_is_shared_any_more_the_command_is_content(config, services, database):
    old_user(database, U_LABEL)
    service.update_user(
        database, old_user(database, A_LABEL), UserUpdate.load(b'{"email": "i@example.com"}')
    )

    result = CliRunner().invoke(cli, ["mailboxes"], obj=AdminCommands(config, services))

    assert result.exit_code == 0
    assert result.stdout == "Gave 1 users a key, 0 share a mailbox\n"


def test_users_beyond_one_batch_get_their_keys(database):
    ids = [old_user(database, f"u{number}@example.com") for number in range(7)]
    make_user(database)

    batches = list(mailboxes.give_keys(database, limit=3))

    assert [each.keys for each in batches] == [3, 3, 1]
    assert {keys(database)[each] for each in ids} == {f"u{n}@example.com" for n in range(7)}
    assert sum(each.keys for each in mailboxes.give_keys(database)) == 0


def test_an_address_that_changes_meanwhile_keeps_the_key_of_its_change(database):
    user = old_user(database, PLAIN)
    known = {"user_id": user, "known": PLAIN, "key": mailbox_key(PLAIN)}
    service.update_user(database, user, UserUpdate.load(b'{"email": "new@example.com"}'))

    with database.transaction() as connection:
        assert mailboxes_queries.set_keys(connection, [known]) == 0

    assert keys(database) == {user: "new@example.com"}


def test_keys_that_are_given_twice_at_once_are_given_once(database):
    user = old_user(database, PLAIN)

    def prepare():
        with database.connection() as connection:
            mine = queries.users.update().where(queries.users.c.id == user)
            connection.execute(mine.values(mailbox_key=None))
            connection.execute(events.delete())
        return 2 * (lambda: list(mailboxes.give_keys(database)),)

    def check():
        assert keys(database) == {user: mailbox_key(PLAIN)}
        assert len(deeds(database, "users.keyed")) == 1

    assert hold_everywhere(database, prepare, check) > 2
