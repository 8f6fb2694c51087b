"""The deeds that leave a row in the audit trail: the route of each, a call of it, and the row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import update

from app import make_token_issuer
from chassis.actor import ActorKind
from chassis.security import fingerprint
from chassis.storage.clock import database_time
from tests.conftest import API_KEY
from tests.support.factories import bearer_of, begin_log_in, make_user
from tests.support.keys import make_key
from userservice.actions import Action
from userservice.logins.queries import find_log_in, tokens
from userservice.scopes import Scope
from userservice.users import links
from userservice.users.links import Purpose
from userservice.users.queries import users

PASSWORD = "correct horse battery"
NEW_PASSWORD = "another sentence of length"
KEY = {"X-API-Key": API_KEY}
FORMER = timedelta(days=1)

# Personal data in what callers send; a row that has a part of them has too much.
MARK = "Zorblax"
NAME = f"{MARK} Quux"
REASON = f"{MARK} was rude"
ROLE = f"{MARK.lower()}:read"
AGENT = f"Mozilla/5.0 (X11; Linux x86_64) {MARK}/1.0"
CLIENT = "203.0.113.77"


def address() -> str:
    """Return an address that nobody has."""
    return f"{MARK.lower()}.{uuid4().hex[:12]}@example.com"


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    form: dict[str, str] | None = None


class World:
    """A user with a password, whom a deed is about, and the ways to act for others."""

    def __init__(self, services: Any, config: Any) -> None:
        self.services, self.config, self.database = services, config, services.database
        self.user = make_user(self.database, email=address(), name=NAME, password=PASSWORD)
        self.caller_id = self.user.id
        self.target = str(self.user.id)

    @property
    def path(self) -> str:
        """The path of the user."""
        return f"/users/{self.user.id}"

    @property
    def bearer(self) -> Any:
        """A log-in of the user."""
        return bearer_of(self.database, self.config, self.user)

    def log_in(self) -> Any:
        """Log the user in; return the tokens."""
        return begin_log_in(self.database, self.config, self.user)

    def write(self, **values: Any) -> None:
        """Change columns of the user, as an earlier deed did."""
        with self.database.connection() as connection:
            connection.execute(update(users).where(users.c.id == self.user.id).values(values))

    def link(self, purpose: Purpose) -> str:
        """Make a link for the user."""
        return links.make_link(self.services, purpose, self.user.id, datetime.now(UTC))[1]

    def act_as_superuser(self) -> Any:
        """Make a superuser, and log it in."""
        by = make_user(self.database, email=address(), password=PASSWORD, is_superuser=True)
        self.caller_id = by.id
        return bearer_of(self.database, self.config, by)


class Deed(NamedTuple):
    """A deed.

    Attributes:
        route: Method and rule.
        action: The row's action.
        changed: The row's members.
        by: The row's kind of actor.
        call: Prepares a world, and returns the call.
        status: The answer's.
        verification: EMAIL_VERIFICATION.
    """

    route: tuple[str, str]
    action: Action
    changed: list[str]
    by: ActorKind
    call: Callable[[World], Call]
    status: int = 204
    verification: str = "off"


def log_in(world: World) -> Call:
    form = {"grant_type": "password", "username": world.user.email, "password": PASSWORD}
    return Call("POST", "/auth/token", form=form)


def reuse(world: World) -> Call:
    """Send a refresh token that was spent long ago."""
    spent = world.log_in().refresh_token
    issuer = make_token_issuer(world.config)
    with world.database.transaction() as connection:
        log_in = find_log_in(connection, fingerprint(spent.encode()))
        assert log_in is not None
        issuer.renew(connection, log_in, spent)
        connection.execute(
            update(tokens)
            .where(tokens.c.spent_at.is_not(None))
            .values(spent_at=database_time(-FORMER))
        )
    return Call("POST", "/auth/token", form={"grant_type": "refresh_token", "refresh_token": spent})


def log_out(world: World) -> Call:
    return Call("POST", "/auth/revoke", form={"token": world.log_in().refresh_token})


def end_session(world: World) -> Call:
    token = world.log_in().access_token
    session = make_token_issuer(world.config).access_tokens.read(token).session_id
    return Call("DELETE", f"{world.path}/sessions/{session}", KEY)


def end_sessions(world: World) -> Call:
    return Call("DELETE", f"{world.path}/sessions", world.bearer)


def change_password(world: World) -> Call:
    document = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    return Call("PUT", f"{world.path}/password", world.bearer, document)


def reset(purpose: Purpose) -> Callable[[World], Call]:
    def call(world: World) -> Call:
        world.log_in()
        document = {"token": world.link(purpose), "new_password": NEW_PASSWORD}
        return Call("POST", "/auth/password/reset", json=document)

    return call


def recover(world: World) -> Call:
    return Call("POST", f"{world.path}/recovery", KEY)


def change_email(world: World) -> Call:
    document = {"email": address(), "current_password": PASSWORD}
    return Call("POST", f"{world.path}/email", world.bearer, document)


def confirm(world: World) -> Call:
    world.write(pending_email=address(), stamp="1" * 32)
    return _confirm(world, Purpose.CHANGE)


def confirm_in_vain(world: World) -> Call:
    """Confirm an address that another user has by now."""
    other = make_user(world.database, email=address())
    world.write(pending_email=other.email, stamp="1" * 32)
    return _confirm(world, Purpose.CHANGE)


def verify(world: World) -> Call:
    return _confirm(world, Purpose.VERIFICATION)


def _confirm(world: World, purpose: Purpose) -> Call:
    return Call("POST", "/auth/email/confirm", world.bearer, {"token": world.link(purpose)})


def patch(**members: str) -> Callable[[World], Call]:
    def call(world: World) -> Call:
        document = {**members, **({"email": address()} if "email" in members else {})}
        return Call("PATCH", world.path, KEY, document)

    return call


def delete(world: World) -> Call:
    return Call("DELETE", world.path, world.bearer)


def erase(world: World) -> Call:
    world.log_in()
    return Call("DELETE", f"{world.path}?erase=now", KEY)


def suspend(world: World) -> Call:
    world.log_in()
    return Call("PUT", f"{world.path}/suspension", KEY, {"reason": REASON})


def suspend_for_another_reason(world: World) -> Call:
    world.write(suspended_at=datetime.now(UTC), suspension_reason="Another")
    return suspend(world)


def reinstate(world: World) -> Call:
    world.write(suspended_at=datetime.now(UTC))
    return Call("DELETE", f"{world.path}/suspension", KEY)


def promote(world: World) -> Call:
    by = world.act_as_superuser()
    return Call("PUT", f"{world.path}/superuser", by, {"current_password": PASSWORD})


def demote(world: World) -> Call:
    world.write(is_superuser=True)
    return Call("DELETE", f"{world.path}/superuser", world.act_as_superuser())


def set_roles(world: World) -> Call:
    return Call("PUT", f"{world.path}/roles", KEY, {"roles": [ROLE]})


def register(**headers: str) -> Callable[[World], Call]:
    def call(_world: World) -> Call:
        document = {"email": address(), "name": NAME}
        return Call("POST", "/users", KEY | headers, document)

    return call


def register_once(world: World) -> Call:
    return register(**{"Idempotency-Key": uuid4().hex})(world)


def make_api_key(_world: World) -> Call:
    return Call("POST", "/api-keys", KEY, {"name": NAME, "scopes": [Scope.USERS_READ]})


def revoke_api_key(world: World) -> Call:
    world.target = make_key(world.database, Scope.USERS_READ).row.id.hex
    return Call("DELETE", f"/api-keys/{world.target}", KEY)


TOKEN = ("POST", "/auth/token")
USERS = ("POST", "/users")
USER = "/users/<uuid:user_id>"
CONFIRM = ("POST", "/auth/email/confirm")
RESET = ("POST", "/auth/password/reset")
SUSPENSION = f"{USER}/suspension"
A_USER, A_KEY, NOBODY = ActorKind.USER, ActorKind.KEY, ActorKind.SYSTEM
CONFIRMED = ["email", "email_verified", "pending_email"]
SUSPENDED = ["sessions", "standing", "suspension_reason"]

DEEDS = {
    "log in": Deed(TOKEN, Action.SESSION_BEGUN, [], A_USER, log_in, 200),
    "use a spent token": Deed(TOKEN, Action.SESSION_REUSED, [], NOBODY, reuse, 400),
    "log out": Deed(("POST", "/auth/revoke"), Action.SESSION_LOGGED_OUT, [], A_USER, log_out, 200),
    "end a session": Deed(
        ("DELETE", f"{USER}/sessions/<uuid:session_id>"),
        *(Action.SESSION_ENDED, [], A_KEY, end_session),
    ),
    "end all sessions": Deed(
        ("DELETE", f"{USER}/sessions"), Action.SESSIONS_ENDED, ["sessions"], A_USER, end_sessions
    ),
    "change the password": Deed(
        ("PUT", f"{USER}/password"), Action.PASSWORD_CHANGED, ["password"], A_USER, change_password
    ),
    "reset the password by mail": Deed(
        *(RESET, Action.PASSWORD_RESET, ["email_verified", "password", "sessions"], A_USER),
        reset(Purpose.RESET),
    ),
    "reset the password by a printed link": Deed(
        RESET, Action.PASSWORD_RESET, ["password", "sessions"], A_USER, reset(Purpose.PRINTED)
    ),
    "send a link": Deed(
        ("POST", f"{USER}/recovery"), Action.RECOVERY_SENT, [], A_KEY, recover, 202
    ),
    "ask for another address": Deed(
        *(("POST", f"{USER}/email"), Action.EMAIL_REQUESTED, ["pending_email"], A_USER),
        *(change_email, 202, "optional"),
    ),
    "change the address at once": Deed(
        ("POST", f"{USER}/email"), Action.EMAIL_CHANGED, ["email"], A_USER, change_email
    ),
    "confirm another address": Deed(CONFIRM, Action.EMAIL_CONFIRMED, CONFIRMED, A_USER, confirm),
    "confirm one that is taken": Deed(
        CONFIRM, Action.EMAIL_DISCARDED, ["pending_email"], A_USER, confirm_in_vain, 409
    ),
    "verify the address": Deed(CONFIRM, Action.EMAIL_VERIFIED, ["email_verified"], A_USER, verify),
    "register a user": Deed(USERS, Action.USER_CREATED, [], A_KEY, register(), 201),
    "register a user once": Deed(USERS, Action.USER_CREATED, [], A_KEY, register_once, 201),
    "register a user who verifies": Deed(
        USERS, Action.USER_CREATED, [], A_KEY, register(), 201, "optional"
    ),
    "change a name": Deed(
        ("PATCH", USER), Action.USER_CHANGED, ["name"], A_KEY, patch(name=NAME), 200
    ),
    "change name and address": Deed(
        *(("PATCH", USER), Action.USER_CHANGED, ["email", "name"], A_KEY),
        *(patch(name=NAME, email=""), 200, "optional"),
    ),
    "delete": Deed(("DELETE", USER), Action.USER_DELETED, ["sessions"], A_USER, delete),
    "erase": Deed(("DELETE", USER), Action.USER_ERASED, ["sessions"], A_KEY, erase),
    "suspend": Deed(
        *(("PUT", SUSPENSION), Action.USER_SUSPENDED, SUSPENDED, A_KEY, suspend),
    ),
    "suspend for another reason": Deed(
        *(("PUT", SUSPENSION), Action.USER_SUSPENDED, ["suspension_reason"], A_KEY),
        suspend_for_another_reason,
    ),
    "reinstate": Deed(
        ("DELETE", SUSPENSION), Action.USER_REINSTATED, ["standing"], A_KEY, reinstate
    ),
    "promote": Deed(
        ("PUT", f"{USER}/superuser"), Action.USER_PROMOTED, ["is_superuser"], A_USER, promote
    ),
    "demote": Deed(
        ("DELETE", f"{USER}/superuser"), Action.USER_DEMOTED, ["is_superuser"], A_USER, demote
    ),
    "set roles": Deed(("PUT", f"{USER}/roles"), Action.USER_ROLES_SET, ["roles"], A_KEY, set_roles),
    "make an API key": Deed(
        *(("POST", "/api-keys"), Action.KEY_CREATED, ["name", "scopes"], A_KEY, make_api_key, 201),
    ),
    "revoke an API key": Deed(
        ("DELETE", "/api-keys/<hex:key_id>"),
        *(Action.KEY_REVOKED, ["revoked_at"], A_KEY, revoke_api_key),
    ),
}

# Routes that change something, and leave no row of this table -> the reason.
ELSEWHERE = {
    ("POST", "/auth/password/forgot"): (
        "asked by nobody who is known; it changes no user, and a row would tell or fill the table"
    ),
    ("POST", f"{USER}/email/verification"): "mails users a link of their own, and changes nothing",
    ("POST", "/users/import"): "its row comes with the job, see tests/jobs",
    ("DELETE", "/jobs/<uuid:job_id>"): "the same",
    ("POST", "/auth/introspect"): "reads",
}
