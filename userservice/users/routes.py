"""/users over HTTP: parse, call one service function, render."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from operator import attrgetter
from uuid import UUID

from flask import Blueprint, Response

from chassis.errors import AppError, PreconditionFailed
from chassis.http.auth import Guard, caller_id, principal, require_part, requires
from chassis.http.conditions import (
    CHANGE_CONDITIONS,
    CONDITIONS,
    conditional_response,
    expected_versions,
    versioned_response,
)
from chassis.http.context import backing_services, web_context
from chassis.http.operation import Operation
from chassis.http.pages import read_page
from chassis.http.rate_limit import is_within, limit, limit_address
from chassis.http.replays import REPLAYED, create_once
from chassis.http.web import JSON, MERGE_PATCH, address, read_body
from chassis.storage.idempotency import KeyInFlight, KeyReused
from chassis.telemetry.tracing import set_attributes, trace_function
from userservice.scopes import Scope
from userservice.users import registration, service
from userservice.users.addresses import mailbox_key
from userservice.users.errors import (
    ConfirmationRequired,
    EmailTaken,
    SuperuserProtected,
    UserNotFound,
)
from userservice.users.models import Status
from userservice.users.policy import EmailPolicy
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate, UserPage, UserQuery, UserRead, UserUpdate

blueprint = Blueprint("users", __name__, url_prefix="/users")


@blueprint.post("")
@requires(Guard.REGISTRAR, Scope.USERS_WRITE)
@limit("registration")
@Operation(
    "Register a user",
    tag="users",
    body=UserCreate,
    returns={201: UserRead},
    raises=(EmailTaken, KeyInFlight, KeyReused),
    request_headers=("Idempotency-Key",),
    response_headers={201: ("Location", "ETag", "Last-Modified", REPLAYED)},
)
@trace_function("user_service.create_user")
def create_user() -> Response:
    """The address must be free, in any spelling. Unknown members are ignored."""
    new = _read_user()
    limit_address("registration", mailbox_key(new.email))
    services = backing_services()
    register: registration.Register = partial(
        registration.register_user, services.database, services.hasher, new
    )
    # Without the link where the address got too many, as after a deletion and another registration.
    if _policy().confirms and is_within("recovery", mailbox_key(new.email)):
        register = registration.verifying(register)
    return create_once(register, _created, subject=attrgetter("id"))


@blueprint.get("")
@requires(Guard.ADMINISTRATOR, Scope.USERS_READ)
@Operation(
    "List users",
    tag="users",
    query=UserQuery,
    returns={200: UserPage},
    response_headers={200: ("Link",)},
)
def list_users() -> Response:
    """Pages are in the order of registration. Every page costs the same, however far behind."""
    page = read_page(UserQuery)
    users = service.list_users(
        backing_services().database,
        status=Status(page.query.status) if page.query.status else None,
        email=page.query.email,
        after=page.after,
        limit=page.limit,
    )
    return page.response(UserPage, users)


@blueprint.get("/me")
@requires(Guard.USER)
@Operation(
    "Read oneself",
    tag="users",
    returns={200: UserRead, 304: None},
    raises=(UserNotFound, PreconditionFailed),
    request_headers=CONDITIONS,
    response_headers={200: ("ETag", "Last-Modified"), 304: ("ETag",)},
)
def get_me() -> Response:
    """The user that the access token names."""
    user = service.get_user(backing_services().database, caller_id())
    return conditional_response(UserRead, user)


@blueprint.get("/<uuid:user_id>")
@requires(Guard.OWNER, Scope.USERS_READ)
@Operation(
    "Read a user",
    tag="users",
    returns={200: UserRead, 304: None},
    raises=(UserNotFound, PreconditionFailed),
    request_headers=CONDITIONS,
    response_headers={200: ("ETag", "Last-Modified"), 304: ("ETag",)},
)
def get_user(user_id: UUID) -> Response:
    """Deleted users are not found."""
    user = service.get_user(backing_services().database, user_id)
    return conditional_response(UserRead, user)


@blueprint.patch("/<uuid:user_id>")
@requires(Guard.OWNER, Scope.USERS_WRITE, parts={"email": Scope.USERS_ADMIN})
@Operation(
    "Change a user",
    tag="users",
    body=UserUpdate,
    media_types=(MERGE_PATCH, JSON),
    returns={200: UserRead},
    raises=(
        *(UserNotFound, EmailTaken, PreconditionFailed, ConfirmationRequired),
        SuperuserProtected,
    ),
    request_headers=CHANGE_CONDITIONS,
    response_headers={200: ("ETag", "Last-Modified")},
)
def update_user(user_id: UUID) -> Response:
    """A JSON merge patch: members that are absent stay as they are. Unknown members are refused.

    `email` is for administrators, and for users other than themselves: users change their own
    address with their password, at /users/{id}/email.
    """
    changes = read_body(UserUpdate, MERGE_PATCH, JSON)
    if "email" in changes.model_fields_set:
        if _is_own(user_id):
            raise ConfirmationRequired
        require_part("email")
    database = backing_services().database
    versions = expected_versions(partial(service.get_user, database, user_id))
    user = service.update_user(
        database, user_id, changes, versions=versions, is_announced=_policy().announces
    )
    return versioned_response(UserRead, user)


def _policy() -> EmailPolicy:
    return web_context().part(EmailPolicy)


def _is_own(user_id: UUID) -> bool:
    caller = principal()
    return caller is not None and caller.user_id == user_id


@trace_function("validate_user_data", {"validation.fields": "email,name,password,source,tier"})
def _read_user() -> UserCreate:
    try:
        new = read_body(UserCreate)
    except AppError as error:
        set_attributes({"validation.result": "invalid", "validation.error": error.detail})
        raise
    set_attributes({"validation.result": "valid"})
    return new


def _created(user: UserRow) -> Response:
    location = {"Location": address(f"/users/{user.id}")}
    return versioned_response(UserRead, user, HTTPStatus.CREATED, location)
