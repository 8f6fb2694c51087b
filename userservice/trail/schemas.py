"""The documents of the audit trail."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from chassis.actor import ActorKind, Source
from chassis.schemas import Page, PageQuery, Schema, Time
from chassis.storage.audit import Outcome
from userservice.actions import Action

# Actors of whom no id is known.
NAMELESS = (ActorKind.OPERATOR.value, ActorKind.SYSTEM.value)
Text = Annotated[str, Field(max_length=64)]
_HEX = "[0-9A-Fa-f]"
_EITHER = f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}|{_HEX}{{32}}"
_ID = re.compile(_EITHER, re.ASCII)
_ACTIONS = [each.value for each in Action]
_NAMED = ("environment", *NAMELESS)


def _as_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("must be the id of a user, a job, a message or a key")
    return value.lower()


def _as_actor(value: str) -> str:
    if value not in _NAMED and not _ID.fullmatch(value):
        raise ValueError(f"must be the id of a user or a key, or {', '.join(_NAMED)}")
    return value.lower()


def _as_action(value: str) -> str:
    if value not in _ACTIONS:
        raise ValueError("must be a deed of the audit trail")
    return value


class EventFilter(Schema):
    """The deeds to read; all of them without a filter."""

    actor: Annotated[Text, AfterValidator(_as_actor)] | None = Field(
        None,
        description="The one who did it: the id of a user or an API key; environment: the key "
        "API_KEY; operator: a command; system: the service itself.",
        json_schema_extra={"pattern": f"^({_EITHER}|{'|'.join(_NAMED)})$"},
    )
    target: Annotated[Text, AfterValidator(_as_id)] | None = Field(
        None,
        description="Id of the user, or the thing, to whom it was done.",
        json_schema_extra={"pattern": f"^({_EITHER})$"},
    )
    action: Annotated[Text, AfterValidator(_as_action)] | None = Field(
        None, description="The deed.", json_schema_extra={"enum": [*_ACTIONS]}
    )
    after: Time | None = Field(
        None, description="Only deeds since this moment, such as 2026-01-31T12:00:00Z."
    )


class EventQuery(EventFilter, PageQuery):
    """The query for a page of the trail."""


class EventRead(Schema):
    """A deed."""

    id: UUID
    at: datetime = Field(description="When its transaction began, by the clock of the database.")
    actor_kind: ActorKind
    actor_id: str | None = Field(description="Id of a user or of an API key.")
    source: Source = Field(description="The way into the service.")
    action: str = Field(description="The deed; later releases know more of them.")
    target: str | None = Field(description="Id of the user or the thing; null: many.")
    changed: list[str] = Field(description="Names of the members that changed.")
    outcome: Outcome = Field(description="begun: it was about to be sent, and may have broken off.")
    request_id: str | None
    trace_id: str | None


class EventPage(Page[EventRead]):
    """A page of the trail."""
