"""The documents of /teams."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from chassis.schemas import Page, Schema
from userservice.teams.models import NAME_LENGTH


class TeamCreate(Schema):
    """The input for a new team."""

    name: str = Field(min_length=1, max_length=NAME_LENGTH, pattern=r"^[^\x00-\x1f]*$")


class TeamRead(Schema):
    """A team, as its owner sees it."""

    id: UUID
    name: str
    created_at: datetime


class TeamPage(Page[TeamRead]):
    """A page of teams, the oldest first."""
