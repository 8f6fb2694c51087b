"""Reading for many messages at once, before their handlers are called."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.errors import Unavailable

logger = logging.getLogger(__name__)

# Returns id of a message -> the value that its handler finds in `known`, as far as there is one.
Reader = Callable[[BackingServices, Sequence[Message]], Mapping[UUID, Any]]

# An older value is not given to a handler, which then reads for itself.
FRESH_SECONDS = 1.0


class ReadAhead:
    """Reads for the messages of a claim, topic by topic, as their readers do.

    Args:
        services: The attached resources that readers work with.
        readers: Topic -> reader. A handler needs none, and must not rely on it.
    """

    def __init__(self, services: BackingServices, readers: Mapping[str, Reader]) -> None:
        self._services = services
        self._readers = readers

    def read(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with what is known of them; never fails.

        A message that comes alone is left to its handler, whose trace then shows the reading.
        """
        by_topic = defaultdict(list)
        for message in messages:
            by_topic[message.topic].append(message)
        known: dict[UUID, Any] = {}
        read_at = time.monotonic()
        for topic, several in by_topic.items():
            if topic in self._readers and len(several) > 1:
                known |= self._read(self._readers[topic], several)
        return [*_with(known, messages, read_at)]

    def _read(self, reader: Reader, messages: Sequence[Message]) -> Mapping[UUID, Any]:
        try:
            return reader(self._services, messages)
        except Unavailable:
            return {}  # handlers meet the outage, too, and say so
        except Exception:
            logger.exception("Reading ahead broke; each handler reads for itself")
            return {}


def _with(
    known: Mapping[UUID, Any], messages: Sequence[Message], read_at: float
) -> Iterator[Message]:
    for message in messages:
        value = known.get(message.id)
        yield message if value is None else message._replace(known=value, known_at=read_at)


def fresh(message: Message) -> Message:
    """Return a message without what may have changed since it was read."""
    if message.known is None or time.monotonic() - message.known_at < FRESH_SECONDS:
        return message
    return message._replace(known=None)
