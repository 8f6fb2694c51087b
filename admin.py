"""One-off processes for operators: python app.py admin COMMAND."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO
from uuid import UUID

import click
from sqlalchemy import text

from bootstrap import open_backing_services
from chassis.background import outbox
from chassis.background.outbox import Backlog, MessageStatus
from chassis.errors import AppError, Unavailable
from chassis.once import once_property
from chassis.storage import idempotency, migrations
from config import AppConfig, ConfigError
from observability import setup_logging
from userservice.jobs import exports, imports, uploads
from userservice.jobs import service as jobs
from userservice.jobs.models import OPEN, JobState, UploadFormat
from userservice.jobs.queries import JobRow
from userservice.jobs.rows import Refusal
from userservice.tokens import service as tokens
from userservice.users import registration
from userservice.users import service as users
from userservice.users.models import Status
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate

if TYPE_CHECKING:
    from chassis.backing_services import BackingServices
    from chassis.storage.database import DatabaseManager

logger = logging.getLogger(__name__)

TABLES = ("users", "refresh_tokens", "idempotency_keys", "outbox_messages", "jobs", "job_chunks")
MIGRATE = "run: python app.py admin migrate"
NO_ANSWER = "the database did not answer"


POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    `is_fatal` says that the service cannot do its work like this; `advice` what to do.
    """

    check: str
    passed: bool
    is_fatal: bool = False
    advice: str = ""


class AdminCommands:
    """What operators do, without a command line around it."""

    def __init__(self, config: AppConfig, services: BackingServices | None = None) -> None:
        self._config = config
        self._given = services

    @once_property
    def services(self) -> BackingServices:
        """The attached resources, opened for the first command that needs them."""
        return self._given or open_backing_services(self._config)

    @property
    def database(self) -> DatabaseManager:
        """The database of the attached resources."""
        return self.services.database

    def migrate_database(self) -> list[str]:
        """Bring the schema up to date and return the revisions that this call applied."""
        return migrations.upgrade(self.database)

    def pending_migrations(self) -> list[str]:
        """Return the revisions that the database lacks, first one first."""
        return migrations.pending(self.database)

    def create_superuser(self, email: str, password: str, name: str = "Administrator") -> UserRow:
        """Create a user who may administer others.

        Raises:
            InvalidRequest: the address or the password breaks a rule.
            EmailTaken: the address belongs to a user.
            Unavailable: the database is away, or its schema is behind.
        """
        self._require_schema()
        document = {"email": email, "name": name, "password": password, "source": "admin"}
        new = UserCreate.load(json.dumps(document).encode())
        return registration.register_user(
            self.database, self.services.hasher, new, is_superuser=True
        )

    def count_old_data(self, days: int = 30) -> dict[str, int]:
        """Count what `cleanup_old_data` would remove."""
        self._require_schema()
        before = _days_ago(days)
        return {
            "idempotency_keys": idempotency.count_expired_keys(self.database),
            "refresh_tokens": tokens.count_expired_tokens(self.database),
            "outbox_messages": outbox.count_settled(self.database, before=before),
            "jobs": jobs.count_old_jobs(self.database, before=before),
            "users": users.count_purgeable_users(self.database, before=before),
        }

    def cleanup_old_data(
        self, days: int = 30, advance: Callable[[int], None] | None = None
    ) -> dict[str, int]:
        """Purge what is no longer needed and return its number by kind.

        Keys and tokens go when they expire; delivered messages, jobs and deleted users by age.

        Args:
            days: Age in days.
            advance: Told the size of each batch.
        """
        self._require_schema()
        before = _days_ago(days)
        batches = {
            "idempotency_keys": idempotency.purge_expired_keys(self.database),
            "refresh_tokens": tokens.purge_expired_tokens(self.database),
            "outbox_messages": outbox.purge_settled(self.database, before=before),
            "jobs": jobs.purge_old_jobs(self.database, before=before),
            "users": users.purge_deleted_users(self.database, before=before),
        }
        totals = dict.fromkeys(batches, 0)
        for kind, sizes in batches.items():
            for purged in sizes:
                totals[kind] += purged
                if advance is not None:
                    advance(purged)
        return totals

    def start_import(self, file: BinaryIO, upload_format: UploadFormat) -> JobRow:
        """Store a file, one user a line, and queue the job that imports it."""
        self._require_schema()
        pieces = iter(partial(file.read, uploads.CHUNK_BYTES), b"")
        return uploads.start_import(self.database, upload_format, pieces)

    def finish_import(self, job: JobRow, advance: Callable[[int], None]) -> JobRow:
        """Do a job in this process, beside any workers; return it when it is over.

        Args:
            job: What `start_import` queued.
            advance: Told how many bytes are done, after each step.
        """
        done = job.done_bytes
        while job.state in OPEN:
            if not imports.run_import_step(self.services, job.id):
                time.sleep(POLL_SECONDS)  # a worker has taken this step
            job, _ = jobs.get_job(self.database, job.id)
            advance(job.done_bytes - done)
            done = job.done_bytes
        return job

    def import_errors(self, job: JobRow) -> Sequence[Refusal]:
        """Return the first lines that an import refused."""
        return jobs.get_job(self.database, job.id)[1]

    def export_users(self, upload_format: UploadFormat) -> Iterator[bytes]:
        """Yield all live users as of one moment, written down."""
        self._require_schema()
        return exports.export_users(self.database, upload_format)

    def count_users(self) -> int:
        """Count the live users."""
        self._require_schema()
        return users.count_users(self.database)[Status.ACTIVE]

    def export_metrics(self, output_file: TextIO, output_format: str = "prometheus") -> None:
        """Write what the database knows as metrics: users, outbox, table sizes in bytes."""
        self._require_schema()
        write = {"prometheus": _write_prometheus, "json": _write_json}[output_format]
        with self.database.connection() as connection:
            backlog = outbox.backlog(connection)
        write(output_file, users.count_users(self.database), backlog, self._table_sizes())

    def list_messages(self, status: MessageStatus, *, limit: int) -> Sequence[dict[str, Any]]:
        """Return messages of one status, oldest first, without what they carry."""
        self._require_schema()
        with self.database.connection() as connection:
            return outbox.list_messages(connection, status, limit=limit)

    def requeue_messages(self, ids: Collection[UUID] | None = None) -> int:
        """Give abandoned messages, all or some, another day; return how many they were."""
        self._require_schema()
        with self.database.connection() as connection:
            return outbox.requeue(connection, ids, now=datetime.now(UTC))

    def check(self) -> list[Finding]:
        """Look at everything the service needs, and say what to do about what is missing."""
        return [
            Finding("configuration", passed=True),  # or there would be no commands to run
            self._check_database(),
            self._check_schema(),
            *self._check_optional(),
            self._check_connections(),
        ]

    def masked_config(self) -> dict[str, str]:
        """Return variable -> effective value, secrets masked."""
        return self._config.masked()

    def close(self) -> None:
        """Close what was opened here."""
        if self._given is None and "services" in self.__dict__:
            self.services.close()

    def _table_sizes(self) -> dict[str, int]:
        with self.database.connection() as connection:
            if self.database.is_sqlite:  # it knows the size of the file only
                pages = connection.scalar(
                    text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
                )
                return {"all": int(pages or 0)}
            size = text("SELECT pg_total_relation_size(to_regclass(:table))")
            return {table: int(connection.scalar(size, {"table": table}) or 0) for table in TABLES}

    def _check_database(self) -> Finding:
        is_fatal = "database" in self._config.ready_requires
        return _finding(
            "database", self.database.ping, "check DATABASE_URL and that it runs", is_fatal
        )

    def _check_schema(self) -> Finding:
        try:
            is_behind = migrations.is_behind(self.database)
        except Unavailable:
            return Finding("schema", passed=False, is_fatal=True, advice=NO_ANSWER)
        advice = MIGRATE if is_behind else ""
        return Finding("schema", passed=not is_behind, is_fatal=True, advice=advice)

    def _require_schema(self) -> None:
        if migrations.is_behind(self.database):
            raise Unavailable(f"The schema is behind; {MIGRATE}")

    def _check_optional(self) -> Iterable[Finding]:
        advice = {
            "redis": "check REDIS_URL, or set it to nothing to do without",
            "external_apis": "check EMAIL_SERVICE_URL and PAYMENT_SERVICE_URL",
        }
        for name, ping in self.services.pings().items():
            if name in advice:
                yield _finding(name, ping, advice[name], name in self._config.ready_requires)

    def _check_connections(self) -> Finding:
        """Compare what one replica may open with what the server allows all of them."""
        config = self._config
        per_process = config.database_pool_size + config.database_max_overflow
        wanted = config.web_concurrency * min(config.web_threads, per_process)
        if self.database.is_sqlite:
            return Finding("connections", passed=True)
        try:
            with self.database.connection() as connection:
                allowed = int(connection.scalar(text("SHOW max_connections")) or 0)
        except Unavailable:
            return Finding("connections", passed=False, advice=NO_ANSWER)
        if wanted * 2 <= allowed:  # during a rollout there are two
            return Finding("connections", passed=True)
        advice = (
            f"a replica may open {wanted} connections and the server allows {allowed} in all: "
            "lower WEB_CONCURRENCY, WEB_THREADS or DATABASE_POOL_SIZE, or raise max_connections"
        )
        return Finding("connections", passed=False, advice=advice)


def _finding(name: str, attempt: Callable[[], None], advice: str, is_fatal: bool) -> Finding:  # noqa: FBT001
    try:
        attempt()
    except Unavailable:
        return Finding(name, passed=False, is_fatal=is_fatal, advice=advice)
    return Finding(name, passed=True, is_fatal=is_fatal)


def _days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def _write_json(
    file: TextIO, counts: dict[str, int], backlog: Backlog, sizes: dict[str, int]
) -> None:
    waiting = {
        "queued": backlog.queued,
        "abandoned": backlog.abandoned,
        "oldest_seconds": _age_seconds(backlog),
    }
    json.dump({"users": counts, "outbox": waiting, "table_bytes": sizes}, file)
    file.write("\n")


def _write_prometheus(
    file: TextIO, counts: dict[str, int], backlog: Backlog, sizes: dict[str, int]
) -> None:
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry()
    by_status = Gauge("users", "Users by status.", ["status"], registry=registry)
    for status, number in counts.items():
        by_status.labels(status).set(number)
    messages = Gauge("outbox_messages", "Messages by status.", ["status"], registry=registry)
    messages.labels("queued").set(backlog.queued)
    messages.labels("abandoned").set(backlog.abandoned)
    age = "Age of the oldest message that waits."
    Gauge("outbox_oldest_message_age_seconds", age, registry=registry).set(_age_seconds(backlog))
    by_table = Gauge("database_table_size_bytes", "Size on disk.", ["table"], registry=registry)
    for table, size in sizes.items():
        by_table.labels(table).set(size)
    file.write(generate_latest(registry).decode())


def _age_seconds(backlog: Backlog) -> float:
    if backlog.oldest is None:
        return 0.0
    return round((datetime.now(UTC) - backlog.oldest).total_seconds(), 3)


class AdminGroup(click.Group):
    """Reports expected failures as one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except AppError as error:
            raise click.ClickException(_sentence(error)) from error
        except BrokenPipeError:
            raise  # click knows: whoever read the result has had enough
        except OSError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.Abort, click.exceptions.Exit, EOFError):
            raise
        except Exception as error:
            logger.exception("Command failed", extra={"error_type": type(error).__name__})
            raise click.ClickException(f"{AppError.title}; the log says more") from error


def _sentence(error: AppError) -> str:
    """Return the error's text and, where a driver caused it, what the driver says."""
    driver = getattr(error.__cause__, "orig", None)
    reason = str(driver or "").partition("\n")[0]
    return (
        f"{error.detail}: {reason}" if isinstance(error, Unavailable) and reason else error.detail
    )


@click.group(cls=AdminGroup, invoke_without_command=True)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Operate the service. The result goes to stdout alone, logs to stderr."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def with_commands(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its AdminCommands; the environment is read now, not for --help."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        commands = ctx.obj or _open(ctx)
        ctx.invoke(command, commands, **options)

    return run


def _open(ctx: click.Context) -> AdminCommands:
    try:
        config = AppConfig.from_env()
    except ConfigError as error:
        if ctx.info_name == "check":
            _report([_refused(each) for each in error.problems], **ctx.params)
        click.echo(error, err=True)
        ctx.exit(2)
    setup_logging(config, sys.stderr)
    commands = AdminCommands(config)
    ctx.call_on_close(commands.close)
    return commands


as_json = click.option("--json", "is_json", is_flag=True, help="For machines.")


@cli.command()
@click.option("--check", "is_check", is_flag=True, help="Only tell: exit 1 when behind.")
@click.option("--plan", "is_plan", is_flag=True, help="Only print what would be applied.")
@as_json
@with_commands
def migrate(commands: AdminCommands, *, is_check: bool, is_plan: bool, is_json: bool) -> None:
    """Bring the database schema up to date. Safe when many do so at once."""
    only_look = is_check or is_plan
    revisions = commands.pending_migrations() if only_look else commands.migrate_database()
    verb = "pending" if only_look else "applied"
    if is_json:
        click.echo(json.dumps({verb: revisions}))
    else:
        click.echo("\n".join(f"{verb} {each}" for each in revisions) or "up to date")
    if is_check and revisions:
        click.get_current_context().exit(1)


@cli.command()
@click.option("--email", required=True, help="Address to log in with.")
@click.option("--name", default="Administrator", show_default=True)
@click.option(
    "--password", envvar="ADMIN_PASSWORD", help="Better prompted for, or in ADMIN_PASSWORD."
)
@click.option("--password-stdin", "is_stdin", is_flag=True, help="Read it from standard input.")
@as_json
@with_commands
def createsuperuser(  # noqa: PLR0913 - one argument for each option
    commands: AdminCommands,
    *,
    email: str,
    name: str,
    password: str | None,
    is_stdin: bool,
    is_json: bool,
) -> None:
    """Create a user who may administer others."""
    if is_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    user = commands.create_superuser(email, password, name)
    click.echo(json.dumps({"id": str(user.id)}) if is_json else f"Created superuser {user.id}")


@cli.command()
@click.option("--days", default=30, show_default=True, type=click.IntRange(0, 36500))
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only count.")
@as_json
@with_commands
def cleanup(commands: AdminCommands, *, days: int, is_dry_run: bool, is_json: bool) -> None:
    """Purge what is no longer needed, in batches."""
    totals = commands.count_old_data(days)
    if not is_dry_run:
        with _progress("Purging", sum(totals.values())) as bar:
            totals = commands.cleanup_old_data(days, bar.update)
    if is_json:
        click.echo(json.dumps(totals | {"dry_run": is_dry_run}))
    else:
        counts = ", ".join(f"{total} {kind.replace('_', ' ')}" for kind, total in totals.items())
        click.echo(f"{'Would purge' if is_dry_run else 'Purged'} {counts}")


as_format = click.option(
    "--format",
    "upload_format",
    type=click.Choice([each.value for each in UploadFormat]),
    default=UploadFormat.NDJSON.value,
    show_default=True,
)


@cli.command("import")
@click.argument("file", type=click.File("rb"))
@as_format
@as_json
@with_commands
def import_users(
    commands: AdminCommands, *, file: BinaryIO, upload_format: str, is_json: bool
) -> None:
    """Create the users in FILE. One a line; - is standard input. Exit 1 when lines were refused."""
    job = commands.start_import(file, UploadFormat(upload_format))
    with _going_on(job), _progress("Importing", job.total_bytes) as bar:
        job = commands.finish_import(job, bar.update)
    _show_refusals(job, commands.import_errors(job))
    summary = {"job": str(job.id), "state": job.state, "created": job.created, "failed": job.failed}
    text = f"Created {job.created} users, refused {job.failed} lines"
    click.echo(json.dumps(summary) if is_json else text)
    if job.state != JobState.SUCCEEDED:
        raise click.ClickException(
            f"Import {job.state}" + (f": {job.reason}" if job.reason else "")
        )
    if job.failed:
        click.get_current_context().exit(1)


@contextmanager
def _going_on(job: JobRow) -> Iterator[None]:
    """Say what becomes of a job that this process does not finish."""
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


@cli.command("export")
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@as_format
@with_commands
def export_users(commands: AdminCommands, *, file: Path, upload_format: str) -> None:
    """Write all live users to FILE. One a line; - is standard output."""
    number = commands.count_users()
    with _written_whole(file) as target, _progress("Exporting", number) as bar:
        for piece in commands.export_users(UploadFormat(upload_format)):
            target.write(piece)
            bar.update(piece.count(b"\n"))


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that comes to be, or replaces the one before it, when the block ended well."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()  # or a reader that is gone would show at the exit only
    elif path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
        with path.open("wb") as file:
            yield file
    else:
        path = path.resolve()  # a link stays, and leads to what was written
        partial_file = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with partial_file.open("xb") as file:
                if path.exists():  # who may read the users is not for us to change
                    partial_file.chmod(path.stat().st_mode)
                yield file
            partial_file.replace(path)
        finally:
            partial_file.unlink(missing_ok=True)


def _progress(label: str, length: int | None) -> Any:
    """Show progress on a terminal, and nothing elsewhere."""
    return click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    )


@cli.command("export-metrics")
@click.argument("file", type=click.File("w", atomic=True))
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["prometheus", "json"]),
    default="prometheus",
    show_default=True,
)
@with_commands
def export_metrics(commands: AdminCommands, *, file: TextIO, output_format: str) -> None:
    """Write metrics about stored data to FILE. - is standard output."""
    commands.export_metrics(file, output_format)


@cli.command()
@click.option("--deploy", "is_deploy", is_flag=True, help="Treat warnings as errors.")
@as_json
@with_commands
def check(commands: AdminCommands, *, is_deploy: bool, is_json: bool) -> None:
    """Say what is missing, and what to do. Looks at all that the service needs."""
    _report(commands.check(), is_deploy=is_deploy, is_json=is_json)


@cli.command()
@as_json
@with_commands
def config(commands: AdminCommands, *, is_json: bool) -> None:
    """Print the effective configuration, secrets masked."""
    masked = commands.masked_config()
    lines = "\n".join(f"{variable}={value}" for variable, value in masked.items())
    click.echo(json.dumps(masked) if is_json else lines)


@cli.group("outbox", invoke_without_command=True)
@click.pass_context
def outbox_group(ctx: click.Context) -> None:
    """Look at messages, and try again what was given up."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@outbox_group.command("list")
@click.option(
    "--status",
    type=click.Choice([str(each) for each in MessageStatus]),
    default=str(MessageStatus.ABANDONED),
    show_default=True,
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@as_json
@with_commands
def list_messages(commands: AdminCommands, *, status: str, limit: int, is_json: bool) -> None:
    """List messages, oldest first, without what they carry."""
    found = commands.list_messages(MessageStatus(status), limit=limit)
    if is_json:
        click.echo(json.dumps([row | {"id": str(row["id"])} for row in found], default=_iso))
        return
    for row in found:
        error = row["last_error"] or "-"
        due_at = _iso(row["due_at"])
        click.echo(f"{row['id']}  {row['topic']}  {row['attempts']} attempts  {due_at}  {error}")


@outbox_group.command()
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "is_all", is_flag=True, help="Every abandoned message.")
@as_json
@with_commands
def requeue(commands: AdminCommands, *, ids: tuple[UUID, ...], is_all: bool, is_json: bool) -> None:
    """Try abandoned messages for another day. Exit 1 when one of IDS is not abandoned."""
    if bool(ids) == is_all:
        raise click.UsageError("Give the ids of messages, or --all")
    number = commands.requeue_messages(None if is_all else ids)
    click.echo(json.dumps({"requeued": number}) if is_json else f"Requeued {number} messages")
    if ids and number < len(set(ids)):
        raise click.ClickException(f"{len(set(ids)) - number} of them were not abandoned")


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _describe(finding: Finding, *, is_deploy: bool) -> str:
    if finding.passed:
        return f"ok       {finding.check}"
    label = "error" if finding.is_fatal or is_deploy else "warning"
    return f"{label:8} {finding.check}: {finding.advice}"


def _report(findings: list[Finding], *, is_deploy: bool, is_json: bool) -> None:
    """Print what was found; exit status 1 when the service cannot work like this."""
    if is_json:
        click.echo(json.dumps([asdict(each) for each in findings]))
    else:
        click.echo("\n".join(_describe(each, is_deploy=is_deploy) for each in findings))
    if any(not each.passed and (each.is_fatal or is_deploy) for each in findings):
        click.get_current_context().exit(1)


def _refused(problem: str) -> Finding:
    return Finding("configuration", passed=False, is_fatal=True, advice=problem)
