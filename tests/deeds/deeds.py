"""The deeds that leave a row in the audit trail: the route of each, a call of it, and the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chassis.actor import ActorKind
from tests.deeds.calls import (
    change_email,
    change_password,
    confirm,
    confirm_in_vain,
    delete,
    demote,
    end_session,
    end_sessions,
    erase,
    log_in,
    log_out,
    make_key,
    patch,
    promote,
    recover,
    register,
    register_once,
    reinstate,
    reset,
    reuse,
    revoke_key,
    set_roles,
    suspend,
    suspend_for_another_reason,
    verify,
)
from tests.deeds.world import NAME, Call, World
from userservice.actions import Action
from userservice.users.links import Purpose


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
    "make a key": Deed(
        ("POST", "/api-keys"), Action.KEY_CREATED, ["name", "scopes"], A_USER, make_key, 201
    ),
    "revoke a key": Deed(
        ("DELETE", "/api-keys/<hex:key_id>"),
        *(Action.KEY_REVOKED, ["revoked_at"], A_KEY, revoke_key),
    ),
    "set roles": Deed(("PUT", f"{USER}/roles"), Action.USER_ROLES_SET, ["roles"], A_KEY, set_roles),
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
