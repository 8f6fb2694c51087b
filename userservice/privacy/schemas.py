"""The documents of a person's data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from chassis.actor import ActorKind, Source
from chassis.background.outbox import MessageStatus
from chassis.schemas import Schema
from chassis.storage.audit import Outcome
from chassis.storage.idempotency import StoredAnswer
from chassis.storage.ids import moment_of
from userservice.logins.queries import SessionRow
from userservice.users.addresses import is_verified


class PersonRead(Schema):
    """The row of a user, but for secrets and keys that follow from the address."""

    id: UUID
    email: str = Field(json_schema_extra={"format": "email"})
    email_verified: bool
    pending_email: str | None
    name: str
    status: Literal["active", "suspended"]
    suspended_at: datetime | None
    suspension_reason: str | None
    signup_source: str
    tier: str
    is_superuser: bool
    roles: list[str]
    has_password: bool
    password_changed_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    sessions_ended_at: datetime | None


class LogInRead(Schema):
    """A log-in that lives."""

    id: UUID
    created_at: datetime | None
    refreshed_at: datetime | None
    expires_at: datetime
    label: str | None


class MessageRead(Schema):
    """Work that follows, or followed, from a change of the user, such as an e-mail."""

    id: UUID
    topic: str
    payload: dict[str, Any]
    trace: dict[str, str]
    status: MessageStatus
    attempts: int
    due_at: datetime
    expires_at: datetime
    last_error: str | None


class AnswerRead(Schema):
    """An answer that is kept for a day, to be sent again to the same Idempotency-Key."""

    created_at: datetime
    answer: str


class DeedRead(Schema):
    """A deed of the audit trail, to the person or of the person, without the ids of others."""

    at: datetime
    actor_kind: ActorKind
    is_actor: bool = Field(description="Whether the person did it.")
    source: Source
    action: str
    is_target: bool = Field(description="Whether it was done to the person.")
    changed: list[str]
    outcome: Outcome


class ExportRead(Schema):
    """All that is stored of one person."""

    user: PersonRead
    sessions: list[LogInRead]
    messages: list[MessageRead]
    answers: list[AnswerRead]
    deeds: list[DeedRead] = Field(description="The thousand newest, the newest first.")

    @classmethod
    def of(
        cls,
        person: Mapping[str, Any],
        sessions: Iterable[SessionRow],
        messages: Iterable[Mapping[str, Any]],
        answers: Iterable[StoredAnswer],
        deeds: Iterable[DeedRead],
    ) -> Self:
        """Make the document from rows."""
        told = {
            **person,
            "email_verified": is_verified(person["email"], person["verified_key"]),
            "roles": person["roles"] or [],
        }
        return cls(
            user=PersonRead.model_validate(told),
            sessions=[LogInRead(**row._asdict(), created_at=moment_of(row.id)) for row in sessions],
            messages=[MessageRead.model_validate(row) for row in messages],
            answers=[AnswerRead(**row._asdict()) for row in answers],
            deeds=list(deeds),
        )


def deeds_of(person_id: UUID, rows: Iterable[Mapping[str, Any]]) -> Iterator[DeedRead]:
    """Yield deeds as a person may see them: without the ids of others who were part of them."""
    for row in rows:
        part = {
            "is_actor": row["actor_id"] == str(person_id),
            "is_target": row["target"] == str(person_id),
        }
        yield DeedRead.model_validate({**row, **part})


class DeletionQuery(Schema):
    """Whether the user's data go at once."""

    model_config = ConfigDict(extra="forbid")  # a misspelt erase would leave the row

    erase: Literal["now"] | None = Field(
        None,
        description="now: all that is stored of the user goes at once; for administrators. "
        "Absent: the user is gone for callers, and the row is purged later.",
    )
