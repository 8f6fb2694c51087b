"""Commands that import and export users, in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from chassis.backing_services import BackingServices
from chassis.cli.options import as_json, with_services
from chassis.cli.output import progress, written_whole
from chassis.storage import migrations
from userservice.jobs import exports, imports, service, uploads
from userservice.jobs.models import OPEN, JobState, UploadFormat
from userservice.jobs.queries import JobRow
from userservice.jobs.rows import Refusal
from userservice.users import service as users

POLL_SECONDS = 0.1

as_format = click.option(
    "--format",
    "upload_format",
    type=click.Choice([each.value for each in UploadFormat]),
    default=UploadFormat.NDJSON.value,
    show_default=True,
)


@click.command("import")
@click.argument("file", type=click.File("rb"))
@as_format
@as_json
@with_services
def import_users(
    services: BackingServices, *, file: BinaryIO, upload_format: str, is_json: bool
) -> None:
    """Create the users in FILE. One a line; - is standard input. Exit 1 when lines were refused."""
    migrations.require_current(services.database)
    pieces = iter(partial(file.read, uploads.CHUNK_BYTES), b"")
    job = uploads.start_import(services.database, UploadFormat(upload_format), pieces)
    with _going_on(job), progress("Importing", job.total_bytes) as bar:
        job = _finish(services, job, bar.update)
    _, refusals = service.get_job(services.database, job.id)
    _show_refusals(job, refusals)
    summary = {"job": str(job.id), "state": job.state, "created": job.created, "failed": job.failed}
    text = f"Created {job.created} users, refused {job.failed} lines"
    click.echo(json.dumps(summary) if is_json else text)
    if job.state != JobState.SUCCEEDED:
        raise click.ClickException(
            f"Import {job.state}" + (f": {job.reason}" if job.reason else "")
        )
    if job.failed:
        click.get_current_context().exit(1)


@click.command("export")
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@as_format
@with_services
def export_users(services: BackingServices, *, file: Path, upload_format: str) -> None:
    """Write all live users to FILE. One a line; - is standard output."""
    migrations.require_current(services.database)
    number = users.count_users(services.database)["active"]
    with written_whole(file) as target, progress("Exporting", number) as bar:
        for piece in exports.export_users(services.database, UploadFormat(upload_format)):
            target.write(piece)
            bar.update(piece.count(b"\n"))


COMMANDS = (import_users, export_users)


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
