"""Checks of everything that a service needs, each with advice for the operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass

import click
from sqlalchemy import text

from chassis.backing_services import BackingServices
from chassis.errors import Unavailable
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from chassis.storage.failures import ReadOnly, driver_says

NO_ANSWER = "the database did not answer"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    `check` is its code, under which docs/checks.md explains it. `is_fatal` says that the service
    cannot work like this, `is_note` that it may be meant; `advice` says how to mend it.
    """

    check: str
    passed: bool
    is_fatal: bool = False
    advice: str = ""
    is_note: bool = False

    @property
    def docs(self) -> str:
        """The place in the documentation."""
        return f"docs/checks.md#{self.check}"

    def document(self) -> dict[str, str | bool]:
        """Return the members for machines; what has passed needs no advice."""
        return asdict(self) | {"advice": "" if self.passed else self.advice, "docs": self.docs}


def check_services(
    services: BackingServices,
    *,
    advice: Mapping[str, str],
    required: Collection[str],
    connections: int,
) -> Iterator[Finding]:
    """Check the attached resources and the schema.

    Args:
        services: The attached resources.
        advice: Attached resource -> remedy for its absence.
        required: The resources without which the service cannot work.
        connections: Database connections that one replica may open.
    """
    for name, ping in services.pings().items():
        yield _attempt(name, ping, advice[name], is_fatal=name in required)
        if name == "database":
            yield _check_schema(services.database)
            yield from _check_writable(services.database)
    yield _check_connections(services.database, connections)


def refused(problem: str) -> Finding:
    """Report a configuration that cannot be used."""
    return Finding("configuration", passed=False, is_fatal=True, advice=problem)


def report(findings: list[Finding], *, is_deploy: bool, is_json: bool) -> None:
    """Print the findings; exit with status 1 when one of them is fatal."""
    if is_json:
        click.echo(json.dumps([each.document() for each in findings]))
    else:
        click.echo("\n".join(_describe(each, is_deploy=is_deploy) for each in findings))
    if any(_label(each, is_deploy=is_deploy) == "error" for each in findings):
        click.get_current_context().exit(1)


def _attempt(name: str, ping: Callable[[], None], advice: str, *, is_fatal: bool) -> Finding:
    try:
        ping()
    except Unavailable as error:
        reason = driver_says(error)
        advice = f"{advice} ({reason})" if reason else advice
        return Finding(name, passed=False, is_fatal=is_fatal, advice=advice)
    return Finding(name, passed=True, is_fatal=is_fatal)


def _check_schema(database: DatabaseManager) -> Finding:
    try:
        is_behind = migrations.is_behind(database)
    except Unavailable:
        return Finding("schema", passed=False, is_fatal=True, advice=NO_ANSWER)
    advice = migrations.REMEDY if is_behind else ""
    return Finding("schema", passed=not is_behind, is_fatal=True, advice=advice)


def _check_writable(database: DatabaseManager) -> Iterator[Finding]:
    """Speak only of a database that is read-only; that it does not answer is said elsewhere."""
    try:
        database.require_writable()
    except ReadOnly:
        advice = "DATABASE_URL leads to a standby, or to a database that was set read-only"
        yield Finding("read_only", passed=False, is_fatal=True, advice=advice)
    except Unavailable:
        return


def _check_connections(database: DatabaseManager, wanted: int) -> Finding:
    """Compare the connections that one replica may open with those that the server allows."""
    if database.is_sqlite:
        return Finding("connections", passed=True)
    try:
        with database.connection() as connection:
            allowed = int(connection.scalar(text("SHOW max_connections")) or 0)
    except Unavailable:
        return Finding("connections", passed=False, advice=NO_ANSWER)
    if wanted * 2 <= allowed:  # during a rollout there are two replicas
        return Finding("connections", passed=True)
    advice = (
        f"a replica may open {wanted} connections and the server allows {allowed} in all: "
        "lower WEB_CONCURRENCY, WEB_THREADS or DATABASE_POOL_SIZE, or raise max_connections"
    )
    return Finding("connections", passed=False, advice=advice)


def _describe(finding: Finding, *, is_deploy: bool) -> str:
    label = _label(finding, is_deploy=is_deploy)
    if finding.passed:
        return f"{label:8} {finding.check}"
    return f"{label:8} {finding.check}: {finding.advice} [{finding.docs}]"


def _label(finding: Finding, *, is_deploy: bool) -> str:
    if finding.passed:
        return "ok"
    if finding.is_note:
        return "note"
    return "error" if finding.is_fatal or is_deploy else "warning"
