"""Full exports of users, and their way back: all columns, ids, dates and hashes included."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from chassis.errors import InvalidRequest
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.users import backups_queries as queries
from userservice.users.backups_queries import Owner
from userservice.users.stored import VERSION, Header, StoredUser, as_line

logger = logging.getLogger(__name__)

BATCH_LINES = 500


class NotRestored(NamedTuple):
    """A line that was refused."""

    line: int
    reason: str


class Restored(NamedTuple):
    """The results of some lines."""

    created: int
    unchanged: int
    """Users who were there already, just as the file has them."""
    refused: Sequence[NotRestored]


class _Line(NamedTuple):
    """A line that was read, and its number."""

    number: int
    user: StoredUser


def export_all(database: DatabaseManager) -> Iterator[bytes]:
    """Yield a header and the lines of all users at one moment, deleted ones as well.

    The audit trail has a row about it before the first line.

    Raises:
        Unavailable: as for `DatabaseManager.snapshot`.
    """
    audit.begin(database, Action.USERS_BACKED_UP)
    with database.snapshot() as connection:
        number = queries.count_all(connection)
        yield as_line(Header(format="users", version=VERSION, users=number))
        for page in queries.stream_all(connection):
            stored = (StoredUser.model_validate(row, from_attributes=True) for row in page)
            yield b"".join(map(as_line, stored))
    logger.info("Full export made", extra={"users": number})


def restore_users(
    database: DatabaseManager, header: Header, lines: Iterable[bytes]
) -> Iterator[Restored]:
    """Store the users of a full export who are not there; yield the results batch by batch.

    A batch is a transaction, with a row in the audit trail if it stored somebody. After a break,
    all of it can be done again: users who are there as the file has them stay.

    Args:
        database: The database.
        header: The first line of the export.
        lines: The others.

    Raises:
        InvalidRequest: there are fewer lines, or more, than the header says.
    """
    numbered = enumerate(lines, start=2)
    read = created = 0
    while batch := list(islice(numbered, BATCH_LINES)):
        restored = _restore_batch(database, batch)
        read, created = read + len(batch), created + restored.created
        yield restored
    logger.info("Users restored", extra={"users": created, "lines": read})
    if read != header.users:
        raise InvalidRequest(f"The file has {read} of the {header.users} users that it announces")


def _restore_batch(database: DatabaseManager, batch: Sequence[tuple[int, bytes]]) -> Restored:
    users, refused = _read(batch)
    with database.transaction() as connection:
        created = queries.insert_missing(connection, [each.user.model_dump() for each in users])
        if created:
            audit.record(connection, Action.USERS_RESTORED, None)
        others = [each for each in users if each.user.id not in created]
        conflicts = _find_conflicts(connection, others) if others else []
    unchanged = len(others) - len(conflicts)
    return Restored(len(created), unchanged, sorted([*refused, *conflicts]))


def _read(batch: Sequence[tuple[int, bytes]]) -> tuple[list[_Line], list[NotRestored]]:
    users, refused = [], []
    for number, line in batch:
        try:
            users.append(_Line(number, StoredUser.load(line)))
        except InvalidRequest as error:
            refused.append(NotRestored(number, error.detail))
    return users, refused


def _find_conflicts(connection: Connection, lines: Sequence[_Line]) -> list[NotRestored]:
    """Return refusals of the lines that differ from what is there."""
    there = _find_there(connection, [each.user.id for each in lines])
    keys = {key for each in lines for key in (each.user.email_key, each.user.mailbox_key) if key}
    owners = queries.find_owners(connection, keys)
    return [
        NotRestored(each.number, _reason(each.user, there, owners))
        for each in lines
        if there.get(each.user.id) != each.user
    ]


def _find_there(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, StoredUser]:
    rows = queries.find_all(connection, ids)
    return {row.id: StoredUser.model_validate(row, from_attributes=True) for row in rows}


def _reason(user: StoredUser, there: Mapping[UUID, StoredUser], owners: Sequence[Owner]) -> str:
    if user.id in there:
        return f"User {user.id} is there already, with other values"
    for owner in owners:
        if user.email_key == owner.email_key or (
            user.mailbox_key is not None and user.mailbox_key == owner.mailbox_key
        ):
            return f"The address of user {user.id} belongs to user {owner.id}"
    return f"User {user.id} was changed meanwhile"
