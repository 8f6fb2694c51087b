"""One-off processes for operators: python app.py admin COMMAND."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TextIO

import click
from sqlalchemy import text

from bootstrap import open_backing_services
from config import AppConfig, ConfigError
from observability import setup_logging
from userservice import migrations
from userservice.errors import AppError, Unavailable
from userservice.users import service as users
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate

if TYPE_CHECKING:
    from userservice.backing_services import BackingServices
    from userservice.database import DatabaseManager

logger = logging.getLogger(__name__)

TABLES = ("users",)
MIGRATE = "run: python app.py admin migrate"
NO_ANSWER = "the database did not answer"


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

    @cached_property
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
        return users.register_user(self.database, self.services.hasher, new, is_superuser=True)

    def count_old_data(self, days: int = 30) -> int:
        """Count what `cleanup_old_data` would remove."""
        self._require_schema()
        return users.count_purgeable_users(self.database, before=_days_ago(days))

    def cleanup_old_data(self, days: int = 30, advance: Callable[[int], None] | None = None) -> int:
        """Purge users deleted more than `days` ago and return their number.

        Args:
            days: Age in days.
            advance: Told the size of each batch.
        """
        self._require_schema()
        total = 0
        for purged in users.purge_deleted_users(self.database, before=_days_ago(days)):
            total += purged
            if advance is not None:
                advance(purged)
        return total

    def export_metrics(self, output_file: TextIO, output_format: str = "prometheus") -> None:
        """Write what the database knows as metrics: users by status, table sizes in bytes."""
        self._require_schema()
        write = {"prometheus": _write_prometheus, "json": _write_json}[output_format]
        write(output_file, users.count_users(self.database), self._table_sizes())

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


def _write_json(file: TextIO, counts: dict[str, int], sizes: dict[str, int]) -> None:
    json.dump({"users": counts, "table_bytes": sizes}, file)
    file.write("\n")


def _write_prometheus(file: TextIO, counts: dict[str, int], sizes: dict[str, int]) -> None:
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry()
    by_status = Gauge("users", "Users by status.", ["status"], registry=registry)
    for status, number in counts.items():
        by_status.labels(status).set(number)
    by_table = Gauge("database_table_size_bytes", "Size on disk.", ["table"], registry=registry)
    for table, size in sizes.items():
        by_table.labels(table).set(size)
    file.write(generate_latest(registry).decode())


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
    """Bring the database schema up to date; safe when many do so at once."""
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
    total = commands.count_old_data(days)
    if not is_dry_run:
        with click.progressbar(
            length=total, label="Purging", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar:
            total = commands.cleanup_old_data(days, bar.update)
    if is_json:
        click.echo(json.dumps({"users": total, "dry_run": is_dry_run}))
    else:
        click.echo(f"{'Would purge' if is_dry_run else 'Purged'} {total} users")


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
    """Write metrics about the stored data to FILE; - is standard output."""
    commands.export_metrics(file, output_format)


@cli.command()
@click.option("--deploy", "is_deploy", is_flag=True, help="Treat warnings as errors.")
@as_json
@with_commands
def check(commands: AdminCommands, *, is_deploy: bool, is_json: bool) -> None:
    """Look at configuration, database, schema, Redis, URLs and connection limits."""
    _report(commands.check(), is_deploy=is_deploy, is_json=is_json)


@cli.command()
@as_json
@with_commands
def config(commands: AdminCommands, *, is_json: bool) -> None:
    """Print the effective configuration, secrets masked."""
    masked = commands.masked_config()
    lines = "\n".join(f"{variable}={value}" for variable, value in masked.items())
    click.echo(json.dumps(masked) if is_json else lines)


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
