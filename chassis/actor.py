"""The actor: for whom this thread works, as the audit trail names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class ActorKind(StrEnum):
    """The kinds of actors."""

    USER = "user"
    KEY = "key"
    OPERATOR = "operator"
    SYSTEM = "system"


class Source(StrEnum):
    """The ways into the service."""

    HTTP = "http"
    COMMAND = "command"
    WORKER = "worker"


# The id of the API key that the environment gives, which has every scope.
ENVIRONMENT_KEY = "environment"


@dataclass(frozen=True, slots=True)
class Actor:
    """The one who acts.

    `id` is that of a user or of an API key; nobody knows that of an operator, or of the service
    itself.
    """

    kind: ActorKind
    id: str | None
    source: Source

    @property
    def is_named_key(self) -> bool:
        """Whether it is an API key with a name and scopes, and not that of the environment."""
        return self.kind is ActorKind.KEY and self.id != ENVIRONMENT_KEY


# A request before its credentials are read, and one that needs none.
CALLER = Actor(ActorKind.SYSTEM, None, Source.HTTP)
# Made once: most requests of services may carry the key of the environment.
SERVICE_ACTOR = Actor(ActorKind.KEY, ENVIRONMENT_KEY, Source.HTTP)
OPERATOR = Actor(ActorKind.OPERATOR, None, Source.COMMAND)
WORKER = Actor(ActorKind.SYSTEM, None, Source.WORKER)

actor: ContextVar[Actor] = ContextVar("actor", default=WORKER)


def known_as(kind: ActorKind, actor_id: UUID | str) -> Actor:
    """Return an actor who has come the way that this thread works for."""
    return Actor(kind, str(actor_id), actor.get().source)


def act_as(kind: ActorKind, actor_id: UUID | str) -> None:
    """Name the actor of the rest of this request."""
    actor.set(known_as(kind, actor_id))


@contextmanager
def acting(as_actor: Actor) -> Iterator[None]:
    """Work for an actor."""
    token = actor.set(as_actor)
    try:
        yield
    finally:
        actor.reset(token)
