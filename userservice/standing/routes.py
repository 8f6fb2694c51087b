"""The standing of a user over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.http.auth import Guard, caller_id, is_privileged, requires
from chassis.http.context import backing_services
from chassis.http.operation import Operation
from chassis.http.rate_limit import limit_caller
from chassis.http.web import PRIVATE, empty_response, json_response, read_body
from userservice.scopes import Scope
from userservice.standing import rights, service
from userservice.standing.schemas import (
    AccountRead,
    AdministeredAccountRead,
    Promotion,
    RoleList,
    Suspension,
)
from userservice.users.credentials import check_password
from userservice.users.errors import (
    LastSuperuser,
    SuperuserProtected,
    UserNotFound,
    WrongPassword,
)

blueprint = Blueprint("standing", __name__, url_prefix="/users/<uuid:user_id>")


@blueprint.get("/account")
@requires(Guard.OWNER, Scope.USERS_ADMIN)
@Operation(
    "Read an account",
    tag="standing",
    returns={200: AdministeredAccountRead},
    raises=(UserNotFound,),
)
def get_account(user_id: UUID) -> Response:
    """Its password, its rights, its log-ins; administrators see the reason of a suspension."""
    row = service.read_account(backing_services().database, user_id)
    schema = AdministeredAccountRead if is_privileged() else AccountRead
    document = schema.model_validate(row, from_attributes=True)
    return json_response(document, headers={"Cache-Control": PRIVATE})


@blueprint.put("/suspension")
@requires(Guard.ADMINISTRATOR, Scope.USERS_ADMIN)
@Operation(
    "Suspend a user",
    tag="standing",
    body=Suspension,
    returns={204: None},
    raises=(UserNotFound, LastSuperuser, SuperuserProtected),
)
def suspend_user(user_id: UUID) -> Response:
    """Log-ins and links end at once, and no password is right until the user is reinstated.

    The reason of a user who is suspended already is replaced.
    """
    reason = read_body(Suspension).reason
    service.suspend(backing_services().database, user_id, reason)
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.delete("/suspension")
@requires(Guard.ADMINISTRATOR, Scope.USERS_ADMIN)
@Operation(
    "Reinstate a user",
    tag="standing",
    returns={204: None},
    raises=(UserNotFound, SuperuserProtected),
)
def reinstate_user(user_id: UUID) -> Response:
    """The password of before is right again; log-ins and links of before stay ended."""
    service.reinstate(backing_services().database, user_id)
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.put("/superuser")
@requires(Guard.SUPERUSER)
@limit_caller("password")
@Operation(
    "Make a user a superuser",
    tag="standing",
    body=Promotion,
    returns={204: None},
    raises=(UserNotFound, WrongPassword),
)
def promote_user(user_id: UUID) -> Response:
    """Takes the password of the superuser who calls: a stolen token must not suffice."""
    password = read_body(Promotion).current_password.get_secret_value()
    services = backing_services()
    checked = check_password(services.database, services.hasher, caller_id(), password)
    rights.promote(services.database, user_id, by=checked)
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.delete("/superuser")
@requires(Guard.SUPERUSER)
@Operation(
    "Take a superuser's rights",
    tag="standing",
    returns={204: None},
    raises=(UserNotFound, LastSuperuser),
)
def demote_user(user_id: UUID) -> Response:
    """The user stays, without rights over others from this moment on."""
    rights.demote(backing_services().database, user_id)
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.put("/roles")
@requires(Guard.ADMINISTRATOR, Scope.USERS_ADMIN)
@Operation(
    "Give a user roles",
    tag="standing",
    body=RoleList,
    returns={204: None},
    raises=(UserNotFound, SuperuserProtected),
)
def set_roles(user_id: UUID) -> Response:
    """The whole list. Roles are for services that read them; here they grant nothing."""
    service.set_roles(backing_services().database, user_id, read_body(RoleList).roles)
    return empty_response(HTTPStatus.NO_CONTENT)
