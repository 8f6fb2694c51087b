"""One-off processes for operators: python app.py admin COMMAND."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

import deployment
from bootstrap import open_backing_services
from chassis.cli import checks, metrics
from chassis.cli.checks import Finding
from chassis.cli.completion import VARIABLE, completion
from chassis.cli.group import AdminGroup, operator_of, require_command
from chassis.cli.migrate import migrate
from chassis.cli.options import as_json, examples, version_option
from chassis.cli.outbox import outbox_group
from chassis.cli.output import PUBLIC, progress, written_whole
from chassis.cli.passwords import ask_for_password, read_password
from chassis.cli.streams import drop_unwritten
from chassis.once import once_property
from chassis.process import interrupts, stacks
from chassis.settings.variables import ConfigError
from chassis.storage import migrations
from chassis.storage.tables import horizons
from chassis.telemetry import instruments
from config import AppConfig
from observability import setup_logging
from userservice import SERVICE_NAME
from userservice.resources import PURGES, RESOURCES, TABLES
from userservice.users import registration
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate

if TYPE_CHECKING:
    from chassis.backing_services import BackingServices
    from chassis.storage.database import DatabaseManager


class AdminCommands:
    """The work of operators, independent of the command line."""

    def __init__(self, config: AppConfig, services: BackingServices | None = None) -> None:
        self._config = config
        self._given = services

    @property
    def settings(self) -> AppConfig:
        """The configuration, for commands that read some settings alone."""
        return self._config

    @once_property
    def services(self) -> BackingServices:
        """The attached resources, opened on first use."""
        return self._given or open_backing_services(self._config)

    @property
    def database(self) -> DatabaseManager:
        """The database of the attached resources."""
        return self.services.database

    def migrate_database(self) -> list[str]:
        """Bring the schema up to date and return the revisions that this call applied."""
        return migrations.upgrade(self.database)

    def create_superuser(self, email: str, password: str, name: str = "Administrator") -> UserRow:
        """Create a user who may administer others.

        Raises:
            InvalidRequest: the address or the password breaks a rule.
            EmailTaken: the address belongs to a user.
            Unavailable: the database is away, or its schema is behind.
        """
        migrations.require_current(self.database)
        document = {"email": email, "name": name, "password": password, "source": "admin"}
        new = UserCreate.load(json.dumps(document).encode())
        return registration.register_user(
            self.database, self.services.hasher, new, is_superuser=True
        )

    def count_old_data(self, days: int = 30) -> dict[str, int]:
        """Count the rows that `cleanup_old_data` would remove."""
        migrations.require_current(self.database)
        before = horizons(self.database, PURGES, self._config, days=days)
        return {
            table: each.count(self.database, before=before[table]) for table, each in PURGES.items()
        }

    def cleanup_old_data(
        self, days: int = 30, advance: Callable[[int], None] | None = None
    ) -> dict[str, int]:
        """Purge rows that are no longer needed; return table -> number of purged rows.

        Keys and tokens are purged once they have expired; delivered messages, ended jobs and
        deleted users by age, and rows of the audit trail by an age of their own.

        Args:
            days: Age in days, for tables without a setting of their own.
            advance: Called with the size of each batch.
        """
        migrations.require_current(self.database)
        before = horizons(self.database, PURGES, self._config, days=days)
        batches = {
            table: each.run(self.database, before=before[table]) for table, each in PURGES.items()
        }
        totals = dict.fromkeys(batches, 0)
        for table, sizes in batches.items():
            for purged in sizes:
                totals[table] += purged
                if advance is not None:
                    advance(purged)
        return totals

    def export_metrics(self, output_file: TextIO, output_format: str = "prometheus") -> None:
        """Write metrics of stored rows: users, outbox, table sizes in bytes."""
        migrations.require_current(self.database)
        stored = (metric for each in RESOURCES for metric in each.metrics)
        metrics.WRITERS[output_format](
            output_file, metrics.read_stored(self.database, stored, TABLES)
        )

    def check(self, *, is_deploy: bool = False) -> list[Finding]:
        """Check everything that the service needs; a finding has advice for what is missing.

        Args:
            is_deploy: Look for settings, too, that nobody should deploy.
        """
        return [*deployment.check(self._config, self.services, is_deploy=is_deploy)]

    def masked_config(self) -> dict[str, str]:
        """Return variable -> effective value, secrets masked."""
        return self._config.masked()

    def close(self) -> None:
        """Close the attached resources if they were opened here."""
        if self._given is None and "services" in self.__dict__:
            self.services.close()


def _open(ctx: click.Context) -> AdminCommands:
    try:
        config = AppConfig.from_env()
    except ConfigError as error:
        if ctx.info_name == "check":
            checks.report([checks.refused(each) for each in error.problems], **ctx.params)
        click.echo(error, err=True)
        ctx.exit(2)
    setup_logging(config, sys.stderr)
    commands = AdminCommands(config)
    ctx.call_on_close(commands.close)
    return commands


@click.group(
    cls=AdminGroup,
    open_operator=_open,
    invoke_without_command=True,
    epilog=examples("check", "migrate", "createsuperuser --email root@example.com"),
)
@version_option(SERVICE_NAME)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Operate the service. The result goes to stdout alone, logs to stderr."""
    require_command(ctx)


for each in (migrate, outbox_group, completion):
    cli.add_command(each)
for resource in RESOURCES:
    for each in resource.commands():
        cli.add_command(each)


def operate(arguments: list[str]) -> NoReturn:
    """Run a command as a process, and end it with the command's status."""
    stacks.write_on_signal()
    interrupts.end_in_order()
    interrupts.listen()
    instruments.count_alone()
    try:
        cli.main(arguments, prog_name="app.py admin", complete_var=VARIABLE)
    except OSError:  # the line about an error could not be written, either
        sys.exit(1)
    finally:
        drop_unwritten()


def with_commands(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its AdminCommands; the environment is read now, so --help needs none."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        ctx.invoke(command, operator_of(ctx), **options)

    return run


@cli.command(
    epilog=examples(
        "createsuperuser --email root@example.com",
        "createsuperuser --email root@example.com --password-stdin --json < password",
    )
)
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
        password = read_password(password)
    elif password is None:
        password = ask_for_password("use --password-stdin, or ADMIN_PASSWORD")
    user = commands.create_superuser(email, password, name)
    click.echo(json.dumps({"id": str(user.id)}) if is_json else f"Created superuser {user.id}")


@cli.command(epilog=examples("cleanup --dry-run", "cleanup --days 7 --json"))
@click.option("--days", default=30, show_default=True, type=click.IntRange(0, 36500))
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only count.")
@as_json
@with_commands
def cleanup(commands: AdminCommands, *, days: int, is_dry_run: bool, is_json: bool) -> None:
    """Purge what is no longer needed, in batches."""
    totals = commands.count_old_data(days)
    if not is_dry_run:
        with progress("Purging", sum(totals.values())) as bar:
            totals = commands.cleanup_old_data(days, bar.update)
    if is_json:
        click.echo(json.dumps(totals | {"dry_run": is_dry_run}))
    else:
        counts = ", ".join(f"{total} {kind.replace('_', ' ')}" for kind, total in totals.items())
        click.echo(f"{'Would purge' if is_dry_run else 'Purged'} {counts}")


@cli.command(
    "export-metrics",
    epilog=examples("export-metrics -", "export-metrics --format json metrics.json"),
)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["prometheus", "json"]),
    default="prometheus",
    show_default=True,
)
@with_commands
def export_metrics(commands: AdminCommands, *, file: Path, output_format: str) -> None:
    """Write metrics about stored data to FILE. - is standard output."""
    document = io.StringIO()
    commands.export_metrics(document, output_format)
    with written_whole(file, mode=PUBLIC) as target:
        target.write(document.getvalue().encode())


@cli.command(epilog=examples("check", "check --deploy --json"))
@click.option("--deploy", "is_deploy", is_flag=True, help="Stricter, and of more.")
@as_json
@with_commands
def check(commands: AdminCommands, *, is_deploy: bool, is_json: bool) -> None:
    """Say what is missing, and what to do. Looks at all that the service needs."""
    checks.report(commands.check(is_deploy=is_deploy), is_deploy=is_deploy, is_json=is_json)


@cli.command(epilog=examples("config", "config --json"))
@as_json
@with_commands
def config(commands: AdminCommands, *, is_json: bool) -> None:
    """Print the effective configuration, secrets masked."""
    masked = commands.masked_config()
    lines = "\n".join(f"{variable}={value}" for variable, value in masked.items())
    click.echo(json.dumps(masked) if is_json else lines)
