"""The commands that leave a row in the audit trail, and a call of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner
from sqlalchemy import delete, update

from admin import AdminCommands, cli
from chassis.background import outbox
from chassis.background.outbox import messages
from tests.support.deeds import store
from tests.support.factories import begin_log_in, make_user
from userservice.actions import Action
from userservice.jobs import uploads
from userservice.jobs.models import UploadFormat
from userservice.users.queries import users

PASSWORD = "correct horse battery"
LINE = b'{"email": "zorblax@example.com", "name": "Zorblax"}\n'


class World:
    """A user, and the ways to what commands are about."""

    def __init__(self, config: Any, services: Any, folder: Path) -> None:
        self.config, self.database, self.file = config, services.database, folder / "file"
        self.commands = AdminCommands(config, services)
        self.user = make_user(self.database, password=PASSWORD)
        self.id = str(self.user.id)

    def run(self, *arguments: str, text: str | None = None) -> Any:
        """Run a command; it must succeed."""
        result = CliRunner().invoke(cli, arguments, obj=self.commands, input=text)
        assert result.exit_code == 0, result.output
        return result

    def write(self, **values: Any) -> None:
        """Change columns of the user."""
        with self.database.connection() as connection:
            connection.execute(update(users).where(users.c.id == self.user.id).values(values))


class Work(NamedTuple):
    """The arguments of a command, the target of its row, and its standard input."""

    arguments: tuple[str, ...] = ()
    target: str | None = None
    text: str | None = None


def about_user(*options: str, text: str | None = None, **values: Any) -> Callable[[World], Work]:
    """Work on the user, whose columns were changed before."""

    def prepare(world: World) -> Work:
        if values:
            world.write(**values)
        return Work((world.id, *options), world.id, text)

    return prepare


def demote(world: World) -> Work:
    make_user(world.database, is_superuser=True, password=PASSWORD)
    return about_user(is_superuser=True)(world)


def log_out(world: World) -> Work:
    begin_log_in(world.database, world.config, world.user)
    return about_user("--yes")(world)


def end_all(world: World) -> Work:
    begin_log_in(world.database, world.config, world.user)
    return Work(("--all", "--yes"))


def erase(world: World) -> Work:
    world.file.write_text(world.id)
    return Work(("--replay", str(world.file), "--yes"), world.id)


def restore(world: World) -> Work:
    world.run("export", "--full", str(world.file))
    with world.database.connection() as connection:
        connection.execute(delete(users))
    return Work(("--restore", str(world.file)))


def cancel(world: World) -> Work:
    job = uploads.start_import(world.database, UploadFormat.NDJSON, [LINE])
    return Work((str(job.id),), str(job.id))


def requeue(world: World) -> Work:
    row = outbox.new_message("user.registered", {"user_id": world.id})
    with world.database.transaction() as connection:
        connection.execute(outbox.INSERT, row)
        connection.execute(update(messages).values(status="abandoned"))
    return Work((str(row["message_id"]),), str(row["message_id"]))


def clean_up(world: World) -> Work:
    store(world.database, age=timedelta(days=366))
    return Work()


# Command -> its row, and the preparation of a call of it.
DEEDS: dict[str, tuple[Action, Callable[[World], Work]]] = {
    "users suspend": (Action.USER_SUSPENDED, about_user("--yes")),
    "users reinstate": (Action.USER_REINSTATED, about_user(suspended_at=datetime.now(UTC))),
    "users promote": (Action.USER_PROMOTED, about_user()),
    "users demote": (Action.USER_DEMOTED, demote),
    "users erase": (Action.USER_ERASED, about_user("--yes")),
    "users log-out": (Action.SESSIONS_ENDED, log_out),
    "users invite": (Action.RECOVERY_SENT, about_user()),
    "users set-password": (
        Action.PASSWORD_SET,
        about_user("--password-stdin", text="another sentence of length\n"),
    ),
    "users reset-link": (Action.RECOVERY_PRINTED, about_user()),
    "sessions end": (Action.USERS_SESSIONS_ENDED, end_all),
    "erase": (Action.USER_ERASED, erase),
    "import": (Action.IMPORT_CREATED, lambda _: Work(("-",), "", LINE.decode())),
    "import --restore": (Action.USERS_RESTORED, restore),
    "export": (Action.USERS_EXPORTED, lambda world: Work((str(world.file),))),
    "export --full": (Action.USERS_BACKED_UP, lambda world: Work(("--full", str(world.file)))),
    "jobs cancel": (Action.IMPORT_CANCELLED, cancel),
    "outbox requeue": (Action.MESSAGES_REQUEUED, requeue),
    "mailboxes": (
        Action.USERS_KEYED,
        lambda world: about_user(mailbox_key=None)(world)._replace(arguments=(), target=None),
    ),
    "createsuperuser": (
        Action.USER_CREATED,
        lambda _: Work(("--email", "root@example.com", "--password-stdin"), "", f"{PASSWORD}\n"),
    ),
    "cleanup": (Action.AUDIT_PURGED, clean_up),
}
