"""SQL about teams; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Table, insert, select

from userservice.teams.models import Team

teams: Table = Team.__table__  # type: ignore[assignment]  # a Table, declared wider


class TeamRow(NamedTuple):
    """A team."""

    id: UUID
    owner_id: UUID
    name: str
    created_at: datetime


_COLUMNS = tuple(teams.c[name] for name in TeamRow._fields)


def insert_team(connection: Connection, team: TeamRow) -> None:
    """Store a new team."""
    connection.execute(insert(teams).values(team._asdict()))


def find_team(connection: Connection, team_id: UUID) -> TeamRow | None:
    """Return a team."""
    row = connection.execute(select(*_COLUMNS).where(teams.c.id == team_id)).first()
    return TeamRow(*row) if row is not None else None


def list_teams(
    connection: Connection, owner_id: UUID, *, after: UUID | None, limit: int
) -> Sequence[TeamRow]:
    """Return at most `limit` teams of one owner in id order, beginning behind `after`."""
    statement = select(*_COLUMNS).where(teams.c.owner_id == owner_id)
    if after is not None:
        statement = statement.where(teams.c.id > after)
    rows = connection.execute(statement.order_by(teams.c.id).limit(limit))
    return [TeamRow(*row) for row in rows]
