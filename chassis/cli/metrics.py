"""Metrics of stored rows, read from the database on demand instead of counted by a process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from chassis.background import outbox
from chassis.background.outbox import Backlog
from chassis.storage import tables
from chassis.storage.database import DatabaseManager
from chassis.storage.tables import StoredMetric


@dataclass(frozen=True, slots=True)
class Stored:
    """Numbers of one moment; sizes are in bytes."""

    values: Mapping[StoredMetric, Mapping[str, float]]
    backlog: Backlog
    table_sizes: Mapping[str, int]

    @property
    def age_seconds(self) -> float:
        """The time that the oldest message has waited."""
        if self.backlog.oldest is None:
            return 0.0
        return round((datetime.now(UTC) - self.backlog.oldest).total_seconds(), 3)


def read_stored(
    database: DatabaseManager, metrics: Iterable[StoredMetric], table_names: Iterable[str]
) -> Stored:
    """Read the metrics of the resources, the outbox and the tables."""
    with database.connection() as connection:
        backlog = outbox.backlog(connection)
    values = {each: each.read(database) for each in metrics}
    return Stored(values, backlog, tables.sizes(database, table_names))


def write_json(file: TextIO, stored: Stored) -> None:
    """Write one object, with a member for each metric."""
    document: dict[str, Mapping[str, float]] = {
        each.name: values for each, values in stored.values.items()
    }
    document["outbox"] = {
        "queued": stored.backlog.queued,
        "abandoned": stored.backlog.abandoned,
        "oldest_seconds": stored.age_seconds,
    }
    document["table_bytes"] = stored.table_sizes
    json.dump(document, file)
    file.write("\n")


def write_prometheus(file: TextIO, stored: Stored) -> None:
    """Write the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry()

    def add_gauge(name: str, meaning: str, label: str, values: Mapping[str, float]) -> None:
        gauge = Gauge(name, meaning, [label], registry=registry)
        for value, number in values.items():
            gauge.labels(value).set(number)

    for each, values in stored.values.items():
        add_gauge(each.name, each.help, each.label, values)
    waiting = {"queued": stored.backlog.queued, "abandoned": stored.backlog.abandoned}
    add_gauge("outbox_messages", "Messages by status.", "status", waiting)
    age = "Age of the oldest message that waits."
    Gauge("outbox_oldest_message_age_seconds", age, registry=registry).set(stored.age_seconds)
    add_gauge("database_table_size_bytes", "Size on disk.", "table", stored.table_sizes)
    file.write(generate_latest(registry).decode())


WRITERS = {"prometheus": write_prometheus, "json": write_json}
