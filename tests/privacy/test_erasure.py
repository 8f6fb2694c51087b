"""Erasure: nothing of a person is left, and a restored backup brings nobody back."""

from __future__ import annotations

import io
import json
import logging
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, event, insert, select, update

from admin import AdminCommands, cli
from chassis.background import outbox
from chassis.background.outbox import messages
from chassis.errors import InvalidRequest
from chassis.storage.columns import Base
from chassis.storage.idempotency import keys
from chassis.telemetry.logs import JsonFormatter
from tests.support.factories import bearer_of, begin_log_in, make_user
from userservice.passwords.recovery import ask_for_recovery
from userservice.privacy import service
from userservice.privacy.ledger import read_ids
from userservice.standing.service import set_roles, suspend
from userservice.users.errors import UserNotFound
from userservice.users.queries import users
from userservice.users.service import delete_user

PASSWORD = "correct horse battery"
PERSON = {"email": "grace.hopper@example.org", "name": "Grace Hopper", "password": PASSWORD}
TABLES = Base.metadata.sorted_tables
# Tables that tell of a person.
TOLD = {"users", "refresh_tokens", "idempotency_keys", "outbox_messages", "audit_events"}


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""
    commands = AdminCommands(config, services)

    def run(*arguments, **options):
        return CliRunner().invoke(cli, ["erase", *arguments], obj=commands, **options)

    return run


@pytest.fixture
def written():
    """Call that returns the log lines written since the start, as a process writes them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter({"service_name": "test"}))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(level)


def register(client, **headers):
    """Register a person by the API, with an answer that is kept; return the id."""
    headers = {"Idempotency-Key": "of the registration", **headers}
    response = client.post("/users", json=PERSON, headers=headers)
    assert response.status_code == 201
    return UUID(response.json["id"])


def fill(database, config, user_id):
    """Give a user whatever a user can have; return texts that tell of the person."""
    ask_for_recovery(database, PERSON["email"])
    with database.transaction() as connection:
        connection.execute(
            update(users)
            .where(users.c.id == user_id)
            .values(pending_email="rear.admiral@example.org", stamp="5" * 32)
        )
        for status in outbox.MessageStatus:
            row = outbox.new_message("user.registered", {"user_id": str(user_id)})
            connection.execute(outbox.INSERT, row)
            own = messages.c.id == row[outbox.PREFIX + "id"]
            connection.execute(update(messages).where(own).values(status=status))
        password_hash = connection.scalar(
            select(users.c.password_hash).where(users.c.id == user_id)
        )
    set_roles(database, user_id, ["navy:admiral"])
    suspend(database, user_id, "Found a moth")
    begin_log_in(database, config, SimpleNamespace(id=user_id), "Firefox on Linux")
    words = ("grace", "hopper", "admiral", "moth", "firefox on linux", "5" * 32)
    return (*words, password_hash, str(user_id), user_id.hex)


def dump(database):
    """Return the rows of every table."""
    with database.connection() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in TABLES
        }


def restore(database, rows):
    with database.transaction() as connection:
        for table in reversed(TABLES):
            connection.execute(delete(table))
        for table in TABLES:
            if rows[table.name]:
                connection.execute(insert(table), rows[table.name])


def found(database, texts):
    """Return table -> texts that one of its rows holds."""
    content = {name: repr(rows).lower() for name, rows in dump(database).items()}
    return {
        name: [each for each in texts if each.lower() in rows]
        for name, rows in content.items()
        if any(each.lower() in rows for each in texts)
    }


def test_an_erased_person_is_in_no_table_nor_after_a_restore_and_a_replay(
    client, service_client, config, database, run
):
    user_id, others = register(client), [make_user(database) for _ in range(3)]
    texts = fill(database, config, user_id)
    # The audit trail stays: with the id, which names nobody any more, and nothing else.
    trail = {"audit_events": [str(user_id)]}
    assert set(found(database, texts)) == TOLD
    backup = dump(database)

    erased = service_client.delete(f"/users/{user_id}?erase=now").status_code

    assert erased == 204
    assert found(database, texts) == trail
    restore(database, backup)
    assert set(found(database, texts)) == TOLD
    replayed = run("--replay", "-", "--yes", input=f"{user_id}\n")
    assert (replayed.exit_code, replayed.stdout) == (0, "Erased 1 users, 0 were gone already\n")
    assert found(database, texts) == trail
    assert {each["id"] for each in dump(database)["users"]} == {each.id for each in others}


def test_nothing_of_others_goes_along(client, service_client, config, database):
    user_id = register(client)
    other_id = UUID(
        client.post(
            "/users",
            json=PERSON | {"email": "ada@example.com"},
            headers={"Idempotency-Key": "of another"},
        ).json["id"]
    )
    fill(database, config, other_id)
    before = found(database, [str(other_id), other_id.hex])

    service_client.delete(f"/users/{user_id}?erase=now")

    assert found(database, [str(other_id), other_id.hex]) == before
    assert set(before) == TOLD


def test_an_answer_that_the_release_before_stored_goes_as_well(client, service_client, database):
    user_id = register(client)
    with database.connection() as connection:
        assert connection.execute(select(keys.c.subject_id)).all() == [(user_id,)]
        connection.execute(update(keys).values(subject_id=None))

    service_client.delete(f"/users/{user_id}?erase=now")

    assert dump(database)["idempotency_keys"] == []


def test_a_deleted_user_can_be_erased_once(service_client, database):
    user = make_user(database)
    delete_user(database, user.id)
    path = f"/users/{user.id}?erase=now"

    statuses = [service_client.delete(path).status_code for _ in range(2)]

    assert statuses == [204, 404]
    assert dump(database)["users"] == []


def test_an_access_token_and_a_refresh_token_end_with_the_erasure(
    client, service_client, config, database
):
    user = make_user(database)
    tokens = begin_log_in(database, config, user)
    service_client.delete(f"/users/{user.id}?erase=now")

    form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
    headers = {"Authorization": f"Bearer {tokens.access_token}"}

    assert client.post("/auth/token", data=form).status_code == 400
    assert client.get("/users/me", headers=headers).status_code == 401


def test_users_may_delete_themselves_and_not_erase(client, config, database):
    user = make_user(database)
    headers = bearer_of(database, config, user)

    refused = client.delete(f"/users/{user.id}?erase=now", headers=headers)

    assert refused.status_code == 403
    assert client.delete(f"/users/{user.id}", headers=headers).status_code == 204


@pytest.mark.parametrize("query", ["?erase=later", "?erase=", "?erase=true"])
def test_a_query_that_is_misspelt_deletes_nobody(service_client, database, query):
    user = make_user(database)

    assert service_client.delete(f"/users/{user.id}{query}").status_code == 400
    assert service_client.get(f"/users/{user.id}").status_code == 200


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_key_erases_no_superuser_and_a_superuser_does(
    client, service_client, config, database, is_deleted
):
    root = make_user(database, is_superuser=True, password=PASSWORD)
    other = make_user(database, is_superuser=True, password=PASSWORD)
    if is_deleted:
        delete_user(database, other.id)
    path = f"/users/{other.id}?erase=now"

    refused = service_client.delete(path)
    erased = client.delete(path, headers=bearer_of(database, config, root))

    assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    assert erased.status_code == 204
    assert [each["id"] for each in dump(database)["users"]] == [root.id]


def test_a_key_learns_nothing_of_a_last_superuser(service_client, database):
    only = make_user(database, is_superuser=True, password=PASSWORD)

    assert service_client.delete(f"/users/{only.id}?erase=now").status_code == 403


@pytest.mark.parametrize("is_deleted", [False, True])
def test_conditions_hold_for_an_erasure(service_client, database, is_deleted):
    user = make_user(database)
    if is_deleted:
        delete_user(database, user.id)
    path, version = f"/users/{user.id}?erase=now", 2 if is_deleted else 1

    stale = service_client.delete(path, headers={"If-Match": '"7"'})
    known = service_client.delete(path, headers={"If-None-Match": "*"})
    fresh = service_client.delete(path, headers={"If-Match": f'"{version}"'})

    assert [stale.status_code, known.status_code, fresh.status_code] == [412, 412, 204]


def test_an_erasure_that_fails_halfway_has_erased_nothing(client, config, database):
    user_id = register(client)
    fill(database, config, user_id)
    before = dump(database)

    def fail(_cursor, statement, _values, _context):
        if "DELETE FROM outbox_messages" in statement:
            raise RuntimeError(statement)

    event.listen(database.engine, "do_execute", fail)
    with pytest.raises(RuntimeError):
        service.erase(database, user_id)
    event.remove(database.engine, "do_execute", fail)

    assert dump(database) == before


# The ledger


def test_the_log_names_the_erased_user_and_nobody_else_and_can_be_replayed(
    client, config, database, run, written
):
    root = make_user(database, is_superuser=True, password=PASSWORD)
    user_id = register(client)
    backup = dump(database)
    headers = bearer_of(database, config, root)

    client.delete(f"/users/{user_id}?erase=now", headers=headers)

    lines = written()
    [told] = [json.loads(each) for each in lines.splitlines() if "User erased" in each]
    assert told["user_id"] == str(user_id)
    assert PERSON["email"] not in lines
    restore(database, backup)
    replayed = run("--replay", "-", "--yes", "--json", input=lines)
    assert json.loads(replayed.stdout) == {"erased": 1, "absent": 0, "spared": []}
    assert [each["id"] for each in dump(database)["users"]] == [root.id]


def test_a_replay_leaves_out_who_is_gone_and_spares_the_last_superuser(run, database):
    only = make_user(database, is_superuser=True, password=PASSWORD)
    user, unknown = make_user(database), uuid4()
    lines = "\n".join(map(str, (user.id, unknown, "", only.id, user.id)))

    text = run("--replay", "-", "--yes", input=lines)

    assert text.exit_code == 1
    assert text.stdout == (
        f"User {only.id} is the last superuser, and was spared\n"
        "Erased 1 users, 1 were gone already\n"
    )
    assert [each["id"] for each in dump(database)["users"]] == [only.id]


@pytest.mark.parametrize("line", ["grace.hopper@example.org", "{", '{"message": "User erased"}'])
def test_a_line_that_is_none_of_a_ledger_erases_nobody_and_is_not_repeated(run, database, line):
    user = make_user(database)

    result = run("--replay", "-", "--yes", input=f"{user.id}\n{line}\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Line 2 is neither an id nor a log line\n"
    assert len(dump(database)["users"]) == 1


def test_a_replay_asks_before_it_erases_and_needs_a_terminal_for_that(run, database, tmp_path):
    user = make_user(database)
    ledger = tmp_path / "erased.txt"
    ledger.write_text(f"{user.id}\n", encoding="utf-8")

    refused = run("--replay", str(ledger), input="y\n")
    assert (refused.exit_code, len(dump(database)["users"])) == (2, 1)
    sure = run("--replay", str(ledger), "--yes")

    assert (sure.exit_code, dump(database)["users"]) == (0, [])
    assert refused.stderr.endswith("Error: There is no terminal to ask at: use --yes\n")


def test_lines_about_others_are_left_out():
    one, two = uuid4(), uuid4()
    lines = [
        b'{"message": "User suspended", "user_id": "%s"}\n' % str(uuid4()).encode(),
        b'{"message": "User erased", "user_id": "%s"}\r\n' % str(one).encode(),
        b" \n",
        f"{two.hex}\n".encode(),
    ]

    assert list(read_ids(lines)) == [one, two]
    with pytest.raises(InvalidRequest):
        list(read_ids([b"\xff\n"]))


def test_an_unknown_user_cannot_be_erased(database):
    with pytest.raises(UserNotFound):
        service.erase(database, uuid4())


@pytest.mark.parametrize(
    "query", ["eraze=now", "Erase=now", "erase=Now", "erase=", "erase=now&x=1"]
)
def test_a_misspelt_erasure_deletes_nothing(service_client, database, query):
    user = make_user(database)

    response = service_client.delete(f"/users/{user.id}?{query}")

    assert response.status_code == 400
    assert service_client.get(f"/users/{user.id}").status_code == 200
