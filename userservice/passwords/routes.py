"""Passwords over HTTP: changed by the user, forgotten by anyone, reset by the holder of a link."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.http.auth import Guard, principal, public, requires
from chassis.http.context import backing_services
from chassis.http.operation import Operation
from chassis.http.rate_limit import is_within, limit, limit_caller
from chassis.http.web import empty_response, read_body
from chassis.links import InvalidLink
from userservice.passwords import recovery, service
from userservice.passwords.schemas import ForgottenPassword, PasswordChange, PasswordReset
from userservice.scopes import Scope
from userservice.tokens.schemas import OAuthProblem
from userservice.users.addresses import mailbox_key
from userservice.users.errors import (
    SuperuserProtected,
    UserNotFound,
    UserSuspended,
    WrongPassword,
)

blueprint = Blueprint("passwords", __name__)


@blueprint.put("/users/<uuid:user_id>/password")
@requires(Guard.SELF)
@limit_caller("password")
@Operation(
    "Change the password",
    tag="passwords",
    body=PasswordChange,
    returns={204: None},
    raises=(WrongPassword, UserNotFound),
)
def change_password(user_id: UUID) -> Response:
    """Ends all other log-ins of the user, voids every link, and tells the user by e-mail.

    With an access token that names no log-in, from a release before, all end.
    """
    change = read_body(PasswordChange)
    caller = principal()
    keep = caller.session_id if caller is not None else None
    service.change_password(backing_services(), user_id, change, keep=keep)
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.post("/auth/password/forgot")
@public
@limit("recovery_client")
@Operation(
    "Ask for a link to a new password",
    tag="passwords",
    body=ForgottenPassword,
    returns={202: None},
    problem=OAuthProblem,
)
def forget_password() -> Response:
    """The answer is the same for every address; if it is a user's, the user gets an e-mail.

    Beyond a few in an hour for one address nothing is sent, with the same answer.
    """
    email = read_body(ForgottenPassword).email
    if is_within("recovery", mailbox_key(email)):
        recovery.ask_for_recovery(backing_services().database, email)
    return empty_response(HTTPStatus.ACCEPTED)


@blueprint.post("/auth/password/reset")
@public
@Operation(
    "Set a password by a link",
    tag="passwords",
    body=PasswordReset,
    returns={204: None},
    raises=(InvalidLink,),
    problem=OAuthProblem,
)
def reset_password() -> Response:
    """The token stands behind the # of the link. It works once, and ends all log-ins.

    A password that is refused does not spend it.
    """
    service.reset_password(backing_services(), read_body(PasswordReset))
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.post("/users/<uuid:user_id>/recovery")
@requires(Guard.ADMINISTRATOR, Scope.USERS_ADMIN)
@Operation(
    "Send a user a link to a new password",
    tag="passwords",
    returns={202: None},
    raises=(UserNotFound, UserSuspended, SuperuserProtected),
)
def recover_user(user_id: UUID) -> Response:
    """A user without a password is invited. The present password works until there is a new one."""
    recovery.recover(backing_services(), user_id)
    return empty_response(HTTPStatus.ACCEPTED)
