"""SQL about users, and nothing else. Rows are immutable; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from chassis.background import outbox
from chassis.storage import audit
from chassis.storage.clock import database_time
from chassis.storage.prepared import AnyConnection, Prepared, PreparedConnection
from userservice.actions import Action
from userservice.users.addresses import fold, keys_of
from userservice.users.models import LATER, Status, User


class UserRow(NamedTuple):
    """A user without credentials."""

    id: UUID
    email: str
    name: str
    status: str
    version: int
    created_at: datetime
    updated_at: datetime


users: Table = User.__table__  # type: ignore[assignment]  # declared as FromClause, is a Table
# Constants are part of the text: a parameter costs more.
LIVE = users.c.status != text("'deleted'")
IS_SUSPENDED = users.c.suspended_at.is_not(None)
# Users who may log in, and to whom links and passwords can be given.
IN_GOOD_STANDING = and_(LIVE, ~IS_SUSPENDED)
# As documents show it. The column stays active, or the release before could not read the row.
STATUS = case(
    # Equal to itself unless it is NULL: in RETURNING, SQLite before 3.41 takes a column that a
    # migration added for NOT NULL.
    (
        and_(LIVE, users.c.suspended_at == users.c.suspended_at),
        literal_column("'suspended'", String()),
    ),
    else_=users.c.status,
).label("status")
_COLUMNS = tuple(STATUS if name == "status" else users.c[name] for name in UserRow._fields)

# Rows of the release before have no mailbox_key, and an email_key that depends on the spelling.
HAS_MAILBOX = or_(
    users.c.mailbox_key == bindparam("mailbox", type_=Text),
    *(
        users.c.email_key == bindparam(name, type_=Text)
        for name in ("mailbox", "spelling", "as_typed")
    ),
)

# The same for all who are new.
_NEW = {
    "status": text("'active'"),
    "version": text("1"),
    "updated_at": bindparam("created_at"),
}
_GIVEN = [column.name for column in users.c if column.name not in LATER]
_INSERT = insert(users).values({name: bindparam(name) for name in _GIVEN} | _NEW)
# PostgreSQL takes both rows in one statement; other databases need two.
_BOTH = outbox.INSERT.add_cte(_INSERT.cte("new_user"))
_INSERT_BOTH = Prepared(_BOTH)
_DEED = audit.INSERT.values(
    {
        "action": text(f"'{Action.USER_CREATED}'"),
        "changed": text("'[]'"),
        "outcome": text(f"'{audit.Outcome.DONE}'"),
    }
)
_INSERT_RECORDED = Prepared(_BOTH.add_cte(_DEED.cte("trail")))

# Never before the creation, of which a host's clock tells the time.
_NOW = database_time()
_CHANGED_AT = case((users.c.updated_at > _NOW, users.c.updated_at), else_=_NOW)
# Goes with each change that a user's document shows.
NEXT_VERSION = {"version": users.c.version + 1, "updated_at": _CHANGED_AT}

_GET = Prepared(select(*_COLUMNS).where(users.c.id == bindparam("user_id"), LIVE))


def mailbox_parameters(email: str) -> dict[str, str]:
    """Return the parameters of HAS_MAILBOX for an address, which may be any text."""
    return {**keys_of(email)._asdict(), "as_typed": fold(email.strip())}


def insert_user(
    connection: AnyConnection,
    values: Mapping[str, Any],
    message: Mapping[str, Any],
    event: Mapping[str, Any] | None = None,
) -> None:
    """Insert a user, the message about it and, with `event`, its row in the audit trail.

    Status, version and updated_at are those of a new user; all other columns are given. On
    PostgreSQL this is one statement; on other databases it needs a transaction.

    Raises:
        IntegrityError: the address belongs to a live user.
    """
    if isinstance(connection, PreparedConnection) or connection.dialect.name == "postgresql":
        if event is None:
            _INSERT_BOTH.run(connection, {**values, **message})
        else:
            _INSERT_RECORDED.run(connection, {**values, **message, **event})
    else:
        connection.execute(_INSERT, values)
        connection.execute(outbox.INSERT, message)
        if event is not None:
            connection.execute(_DEED, event)


def set_verified(connection: Connection, user_id: UUID, key: str) -> None:
    """Note the key of the address that a new user has verified."""
    connection.execute(update(users).where(users.c.id == user_id).values(verified_key=key))


def find_user(connection: AnyConnection, user_id: UUID) -> UserRow | None:
    """Return a live user."""
    row = _GET.first(connection, {"user_id": user_id})
    return UserRow(*row) if row is not None else None


def find_users(connection: Connection, ids: Collection[UUID]) -> Sequence[UserRow]:
    """Return the live ones of some users, in no order."""
    statement = select(*_COLUMNS).where(users.c.id.in_(ids), LIVE)
    return [UserRow(*row) for row in connection.execute(statement)]


def list_users(
    connection: Connection,
    *,
    status: Status | None,
    email: str | None,
    after: UUID | None,
    limit: int,
) -> Sequence[UserRow]:
    """Return at most `limit` users of one status in id order, beginning behind `after`.

    Without `status`, all who are live; with `email`, only users whose mailbox it names.
    """
    statement = select(*_COLUMNS).where(having(status))
    if email is not None:
        statement = statement.where(HAS_MAILBOX)
    if after is not None:
        statement = statement.where(users.c.id > after)
    parameters = mailbox_parameters(email) if email is not None else {}
    rows = connection.execute(statement.order_by(users.c.id).limit(limit), parameters)
    return [UserRow(*row) for row in rows]


def lock_email(connection: Connection, user_id: UUID) -> str | None:
    """Lock the row of a live user as an UPDATE does, and return the address in force."""
    statement = select(users.c.email).where(users.c.id == user_id, LIVE)
    email: str | None = connection.scalar(statement.with_for_update(key_share=True))
    return email


def update_user(  # noqa: PLR0913 - a condition each, by name
    connection: Connection,
    user_id: UUID,
    values: Mapping[str, Any],
    *,
    versions: Collection[int] | None = None,
    is_superuser: bool | None = None,
    event: Mapping[str, Any] | None = None,
) -> UserRow | None:
    """Change a live user that has one of `versions` (None: any); return None without such a user.

    With `is_superuser`, only one who is a superuser, or only one who is none. With `event`, the
    change is recorded in the audit trail, see `audit.run_recorded`.

    Raises:
        IntegrityError: the new address belongs to another live user.
    """
    statement = update(users).where(users.c.id == user_id, LIVE)
    if versions is not None:
        statement = statement.where(users.c.version.in_(versions))
    if is_superuser is not None:
        statement = statement.where(users.c.is_superuser == is_superuser)
    statement = statement.values(**values, **NEXT_VERSION)
    row = audit.run_recorded(connection, statement.returning(*_COLUMNS), event)
    return UserRow(*row) if row is not None else None


def count_users(connection: Connection) -> dict[str, int]:
    """Return status -> number of users; reads the whole table."""
    counts = connection.execute(select(STATUS, func.count()).group_by(STATUS))
    return dict.fromkeys(map(str, Status), 0) | dict(counts.all())


def count_purgeable(connection: Connection, *, before: datetime) -> int:
    """Count the users that were deleted before a point in time."""
    statement = select(func.count()).where(_deleted(), users.c.updated_at < before)
    return connection.execute(statement).scalar_one()


def purge_users(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove at most `limit` users deleted before a point in time; return their number."""
    batch = select(users.c.id).where(_deleted(), users.c.updated_at < before).limit(limit)
    return connection.execute(delete(users).where(users.c.id.in_(batch))).rowcount


def having(status: str | None) -> ColumnElement[bool]:
    """Return the condition on a status, as text, not as a parameter: it selects a partial index."""
    if status == Status.DELETED:
        return _deleted()
    if status is None:
        return LIVE
    return and_(LIVE, IS_SUSPENDED) if status == Status.SUSPENDED else IN_GOOD_STANDING


def _deleted() -> ColumnElement[bool]:
    return users.c.status == text("'deleted'")
