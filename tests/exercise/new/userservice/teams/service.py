"""Rules and transactions for teams."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from chassis.background import outbox
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.teams import queries
from userservice.teams.errors import TeamNotFound
from userservice.teams.queries import TeamRow
from userservice.teams.schemas import TeamCreate

TEAM_CREATED = "team.created"


def create_team(database: DatabaseManager, owner_id: UUID, new: TeamCreate) -> TeamRow:
    """Create a team, and the message that says so: both are stored, or neither."""
    team = TeamRow(uuid7(), owner_id, new.name, datetime.now(UTC))
    message = outbox.new_message(TEAM_CREATED, {"team_id": str(team.id)})
    with database.transaction() as connection:
        queries.insert_team(connection, team)
        connection.execute(outbox.INSERT, message)
    return team


def get_team(database: DatabaseManager, team_id: UUID) -> TeamRow:
    """Return a team.

    Raises:
        TeamNotFound: there is none with this id.
    """
    with database.connection() as connection:
        team = queries.find_team(connection, team_id)
    if team is None:
        raise TeamNotFound
    return team


def find_owner(database: DatabaseManager, team_id: UUID) -> UUID | None:
    """Return whose team it is; None when there is none with this id."""
    with database.connection() as connection:
        team = queries.find_team(connection, team_id)
    return team.owner_id if team is not None else None


def list_teams(
    database: DatabaseManager, owner_id: UUID, *, after: UUID | None, limit: int
) -> Sequence[TeamRow]:
    """Return at most `limit` teams of one owner, beginning behind `after`."""
    with database.connection() as connection:
        return queries.list_teams(connection, owner_id, after=after, limit=limit)
