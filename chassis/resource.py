"""Declarations of resources: each process takes the parts that it needs from one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from flask import Blueprint

from chassis.background.delivery import AbandonedHandler, Handler
from chassis.background.read_ahead import Reader
from chassis.storage.tables import StoredMetric, Tables

if TYPE_CHECKING:
    import click  # for one-off processes only

T = TypeVar("T")


def _no_metrics() -> None:
    """Nothing is counted."""


def _no_commands() -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """All parts that a resource adds to the processes of a service.

    Args:
        name: The resource's name in the plural, as in its addresses.
        blueprint: The routes.
        tags: Group of operations in the API's description -> a sentence about it.
        handlers: Topic -> work that follows from a message.
        readers: Topic -> reading for many messages at once, which spares their handlers it.
        abandoned_handlers: Topic -> work before a message is given up.
        tables: Table -> the purge of its rows.
        metrics: Metrics that are read from the database.
        prepare_metrics: Shows the metrics that are counted, from the start of a process.
        commands: Imports and returns the commands, which only one-off processes need.
    """

    name: str
    blueprint: Blueprint | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    readers: Mapping[str, Reader] = field(default_factory=dict)
    abandoned_handlers: Mapping[str, AbandonedHandler] = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    metrics: tuple[StoredMetric, ...] = ()
    prepare_metrics: Callable[[], None] = _no_metrics
    commands: Callable[[], Sequence[click.Command]] = _no_commands


def merge(declared: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """Return all declarations in one mapping, in their order.

    Raises:
        ValueError: two resources declare the same topic, table or tag.
    """
    merged: dict[str, T] = {}
    for each in declared:
        if twice := merged.keys() & each.keys():
            raise ValueError(f"Declared twice: {', '.join(sorted(twice))}")
        merged |= each
    return merged
