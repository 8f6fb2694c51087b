"""Commands that import and export users, in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import click

from chassis.backing_services import BackingServices
from chassis.cli.group import require_command
from chassis.cli.options import SOME_ID, as_json, examples, with_services
from chassis.cli.output import progress, written_secretly, written_whole
from chassis.cli.streams import InputFile
from chassis.storage import migrations
from userservice.jobs import exports, imports, service, uploads
from userservice.jobs.models import OPEN, JobState, UploadFormat
from userservice.jobs.queries import JobRow
from userservice.jobs.records import MAX_LINE_BYTES
from userservice.jobs.rows import Refusal
from userservice.users import backups
from userservice.users import service as users
from userservice.users.stored import Header

POLL_SECONDS = 0.1

as_format = click.option(
    "--format",
    "upload_format",
    type=click.Choice([each.value for each in UploadFormat]),
    default=UploadFormat.NDJSON.value,
    show_default=True,
)


@click.command(
    "import",
    epilog=examples(
        "import users.ndjson", "import --format csv - < users.csv", "import --restore users.full"
    ),
)
@click.argument("file", type=InputFile())
@as_format
@click.option("--restore", "is_restore", is_flag=True, help="From an export --full, with ids.")
@as_json
@with_services
def import_users(
    services: BackingServices,
    *,
    file: BinaryIO,
    upload_format: str,
    is_restore: bool,
    is_json: bool,
) -> None:
    """Create the users in FILE. One a line; - is standard input. Exit 1 when lines were refused.

    With --restore, users who are there already stay as they are, and lines about others who differ
    are refused; do it again after a break.
    """
    _refuse_csv(upload_format, is_whole=is_restore)
    migrations.require_current(services.database)
    if is_restore:
        _restore(services, file, is_json=is_json)
    else:
        _import(services, file, upload_format, is_json=is_json)


def _import(
    services: BackingServices, file: BinaryIO, upload_format: str, *, is_json: bool
) -> None:
    pieces = iter(partial(file.read, uploads.CHUNK_BYTES), b"")
    job = uploads.start_import(services.database, UploadFormat(upload_format), pieces)
    with _going_on(job), progress("Importing", job.total_bytes) as bar:
        job = _finish(services, job, bar.update)
    _, refusals = service.get_job(services.database, job.id)
    _show_refusals(job, refusals)
    _show_ignored(job)
    summary = {"job": str(job.id), "state": job.state, "created": job.created, "failed": job.failed}
    summary |= {"ignored": dict(job.ignored or {})}
    text = f"Created {job.created} users, refused {job.failed} lines"
    click.echo(json.dumps(summary) if is_json else text)
    if job.state != JobState.SUCCEEDED:
        raise click.ClickException(
            f"Import {job.state}" + (f": {job.reason}" if job.reason else "")
        )
    if job.failed:
        click.get_current_context().exit(1)


def _restore(services: BackingServices, file: BinaryIO, *, is_json: bool) -> None:
    lines = iter(partial(file.readline, MAX_LINE_BYTES), b"")
    header = Header.read(next(lines, b""))
    restored = unchanged = refused = 0
    with progress("Restoring", header.users) as bar:
        for each in backups.restore_users(services.database, header, lines):
            for line in each.refused[: max(0, service.SHOWN_ERRORS - refused)]:
                click.echo(f"line {line.line}: {line.reason}", err=True)
            restored, unchanged = restored + each.created, unchanged + each.unchanged
            refused += len(each.refused)
            bar.update(each.created + each.unchanged + len(each.refused))
    summary = {"restored": restored, "unchanged": unchanged, "refused": refused}
    text = f"Restored {restored} users, {unchanged} were there, refused {refused} lines"
    click.echo(json.dumps(summary) if is_json else text)
    if refused:
        click.get_current_context().exit(1)


@click.command(
    "export",
    epilog=examples(
        "export users.ndjson", "export --format csv - > users.csv", "export --full users.full"
    ),
)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@as_format
@click.option("--full", "is_full", is_flag=True, help="All columns of all users; holds secrets.")
@with_services
def export_users(
    services: BackingServices, *, file: Path, upload_format: str, is_full: bool
) -> None:
    """Write all live users to FILE. One a line; - is standard output.

    With --full also deleted users, with ids, dates, password hashes, rights and standing, for
    import --restore; only the owner may read the file, and a terminal is refused.
    """
    _refuse_csv(upload_format, is_whole=is_full)
    migrations.require_current(services.database)
    if is_full:
        _export_full(services, file)
        return
    counts = users.count_users(services.database)
    number = counts["active"] + counts["suspended"]
    with written_whole(file) as target, progress("Exporting", number) as bar:
        for piece in exports.export_users(services.database, UploadFormat(upload_format)):
            target.write(piece)
            bar.update(piece.count(b"\n"))


@click.group("jobs", invoke_without_command=True)
@click.pass_context
def jobs_group(ctx: click.Context) -> None:
    """Look at imports, and stop them."""
    require_command(ctx)


@jobs_group.command("list", epilog=examples("jobs list", "jobs list --state running --json"))
@click.option("--state", type=click.Choice([str(each) for each in JobState]), help="Only these.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@as_json
@with_services
def list_jobs(services: BackingServices, *, state: str | None, limit: int, is_json: bool) -> None:
    """List imports, newest first."""
    migrations.require_current(services.database)
    found = service.list_jobs(services.database, JobState(state) if state else None, limit=limit)
    if is_json:
        click.echo(json.dumps([_document(job) for job in found]))
        return
    for job in found:
        told = (value for name, value in _document(job).items() if name != "ignored")
        click.echo("  ".join(str(value) for value in told if value is not None))


@jobs_group.command("cancel", epilog=examples(f"jobs cancel {SOME_ID}"))
@click.argument("job_id", metavar="ID", type=click.UUID)
@as_json
@with_services
def cancel_job(services: BackingServices, *, job_id: UUID, is_json: bool) -> None:
    """Stop an import before its next step; imported users stay. Exit 1 when it was over."""
    migrations.require_current(services.database)
    service.cancel_job(services.database, job_id)
    job, _ = service.get_job(services.database, job_id)
    if job.state != JobState.CANCELLED:
        raise click.ClickException(f"Import {job_id} is over: {job.state}")
    click.echo(json.dumps(_document(job)) if is_json else f"Cancelled import {job_id}")


COMMANDS = (import_users, export_users, jobs_group)


def _document(job: JobRow) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "state": job.state,
        "created_at": job.created_at.isoformat(timespec="seconds"),
        "done_bytes": job.done_bytes,
        "total_bytes": job.total_bytes,
        "created": job.created,
        "failed": job.failed,
        "reason": job.reason,
        "ignored": dict(job.ignored or {}) or None,
    }


def _refuse_csv(upload_format: str, *, is_whole: bool) -> None:
    if is_whole and UploadFormat(upload_format) is UploadFormat.CSV:
        raise click.UsageError("A full export is JSON: leave --format csv out")


def _export_full(services: BackingServices, file: Path) -> None:
    number = sum(users.count_users(services.database).values())
    holding = "password hashes"
    with written_secretly(file, holding=holding) as target, progress("Exporting", number) as bar:
        for piece in backups.export_all(services.database):
            target.write(piece)
            bar.update(piece.count(b"\n"))


def _finish(services: BackingServices, job: JobRow, advance: Callable[[int], None]) -> JobRow:
    """Do the steps of a job in this process; workers may do some of them. Return the ended job.

    Args:
        services: The attached resources.
        job: A job that was queued.
        advance: Called after each step with the number of bytes that are done.
    """
    done = job.done_bytes
    while job.state in OPEN:
        if not imports.run_import_step(services, job.id):
            time.sleep(POLL_SECONDS)  # a worker has taken this step
        job, _ = service.get_job(services.database, job.id)
        advance(job.done_bytes - done)
        done = job.done_bytes
    return job


@contextmanager
def _going_on(job: JobRow) -> Iterator[None]:
    """When the block is left before the job is over, log how the job goes on."""
    try:
        yield
    except BaseException:
        click.echo(
            f"Import {job.id} is not over: a worker goes on with it, "
            f"unless DELETE /jobs/{job.id} stops it",
            err=True,
        )
        raise


def _show_refusals(job: JobRow, refusals: Sequence[Refusal]) -> None:
    for each in refusals:
        click.echo(f"line {each.line}: {each.reason}", err=True)
    if job.failed > len(refusals):
        click.echo(f"and {job.failed - len(refusals)} more lines", err=True)


def _show_ignored(job: JobRow) -> None:
    for name, number in (job.ignored or {}).items():
        click.echo(f"ignored: {name} in {number} lines", err=True)
