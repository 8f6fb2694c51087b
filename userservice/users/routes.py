"""/users over HTTP: parse, call one service function, render."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, request
from sqlalchemy import Connection

from chassis.errors import AppError, PreconditionFailed
from chassis.http.auth import Guard, principal, requires
from chassis.http.context import backing_services, web_context
from chassis.http.openapi import operation
from chassis.http.rate_limit import limit, limit_address
from chassis.http.web import (
    JSON,
    MERGE_PATCH,
    dump_response,
    empty_response,
    idempotent_request,
    is_unchanged,
    json_response,
    load_response,
    read_body,
    read_query,
)
from chassis.storage import idempotency
from chassis.storage.idempotency import KeyInFlight, KeyReused
from chassis.telemetry.tracing import set_attributes, trace_function
from userservice.users import registration, service
from userservice.users.errors import EmailTaken, UserNotFound
from userservice.users.models import Status
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate, UserPage, UserQuery, UserRead, UserUpdate

OUR_ETAG = re.compile(r"[1-9][0-9]{0,8}")  # no more digits than the column holds

blueprint = Blueprint("users", __name__, url_prefix="/users")


@blueprint.post("")
@requires(Guard.REGISTRAR)
@limit("registration")
@operation(
    "Register a user",
    tag="users",
    body=UserCreate,
    returns={201: UserRead},
    raises=(EmailTaken, KeyInFlight, KeyReused),
    request_headers=("Idempotency-Key",),
    response_headers={201: ("Location", "ETag", "Last-Modified")},
)
@trace_function("user_service.create_user")
def create_user() -> Response:
    """The address must be free, whatever its case. Unknown members are ignored."""
    new = _read_user()
    limit_address("registration", service.email_key(new.email))
    services = backing_services()
    attempt = idempotent_request("create_user")
    if attempt is None:
        return _created(registration.register_user(services.database, services.hasher, new))

    def reserve(connection: Connection, user: UserRow) -> None:
        idempotency.reserve(connection, attempt, dump_response(_created(user)))

    try:
        idempotency.recall(services.database, attempt)
        user = registration.register_user(
            services.database, services.hasher, new, in_transaction=reserve
        )
    except idempotency.AlreadyAnswered as answered:
        return load_response(answered.answer)
    return _created(user)


@blueprint.get("")
@requires(Guard.ADMINISTRATOR)
@operation(
    "List users",
    tag="users",
    query=UserQuery,
    returns={200: UserPage},
    response_headers={200: ("Link",)},
)
def list_users() -> Response:
    """Pages follow the order of registration; every page costs the same, however far it is."""
    query = read_query(UserQuery)
    tokens = web_context().page_tokens
    filters = (query.status, query.email)
    users = service.list_users(
        backing_services().database,
        status=Status(query.status or Status.ACTIVE),
        email=query.email,
        after=tokens.read(query.page_token, *filters) if query.page_token is not None else None,
        limit=query.page_size + 1,  # one more tells whether there is a next page
    )
    page = users[: query.page_size]
    next_token = tokens.sign(page[-1].id, *filters) if len(users) > len(page) else None
    headers = {"Cache-Control": "private, no-cache"}
    if next_token is not None:
        parameters = query.model_dump(exclude_unset=True) | {"page_token": next_token}
        headers["Link"] = f'</users?{urlencode(parameters)}>; rel="next"'
    items = [UserRead.model_validate(user, from_attributes=True) for user in page]
    return json_response(UserPage(items=items, next_page_token=next_token), headers=headers)


@blueprint.get("/me")
@requires(Guard.USER)
@operation(
    "Read oneself",
    tag="users",
    returns={200: UserRead, 304: None},
    raises=(UserNotFound,),
    request_headers=("If-None-Match",),
    response_headers={200: ("ETag", "Last-Modified"), 304: ("ETag",)},
)
def get_me() -> Response:
    """The user that the access token names."""
    caller = principal()
    assert caller is not None  # noqa: S101 - the guard let in a user
    assert caller.user_id is not None  # noqa: S101
    return _conditional(service.get_user(backing_services().database, caller.user_id))


@blueprint.get("/<uuid:user_id>")
@requires(Guard.OWNER)
@operation(
    "Read a user",
    tag="users",
    returns={200: UserRead, 304: None},
    raises=(UserNotFound,),
    request_headers=("If-None-Match",),
    response_headers={200: ("ETag", "Last-Modified"), 304: ("ETag",)},
)
def get_user(user_id: UUID) -> Response:
    """Deleted users are not found."""
    return _conditional(service.get_user(backing_services().database, user_id))


@blueprint.patch("/<uuid:user_id>")
@requires(Guard.OWNER)
@operation(
    "Change a user",
    tag="users",
    body=UserUpdate,
    media_types=(MERGE_PATCH, JSON),
    returns={200: UserRead},
    raises=(UserNotFound, EmailTaken, PreconditionFailed),
    request_headers=("If-Match",),
    response_headers={200: ("ETag", "Last-Modified")},
)
def update_user(user_id: UUID) -> Response:
    """A JSON merge patch: members that are absent stay as they are. Unknown members are refused."""
    changes = read_body(UserUpdate, MERGE_PATCH, JSON)
    database = backing_services().database
    return _render(service.update_user(database, user_id, changes, versions=_expected_versions()))


@blueprint.delete("/<uuid:user_id>")
@requires(Guard.OWNER)
@operation(
    "Delete a user",
    tag="users",
    returns={204: None},
    raises=(UserNotFound, PreconditionFailed),
    request_headers=("If-Match",),
)
def delete_user(user_id: UUID) -> Response:
    """The user is gone for every caller at once, and the row is purged later."""
    service.delete_user(backing_services().database, user_id, versions=_expected_versions())
    return empty_response(HTTPStatus.NO_CONTENT)


@trace_function("validate_user_data", {"validation.fields": "email,name,password,source,tier"})
def _read_user() -> UserCreate:
    try:
        new = read_body(UserCreate)
    except AppError as error:
        set_attributes({"validation.result": "invalid", "validation.error": error.detail})
        raise
    set_attributes({"validation.result": "valid"})
    return new


def _conditional(user: UserRow) -> Response:
    if is_unchanged(_etag(user)):
        return empty_response(HTTPStatus.NOT_MODIFIED, _validators(user))
    return _render(user)


def _created(user: UserRow) -> Response:
    return _render(user, HTTPStatus.CREATED, {"Location": f"/users/{user.id}"})


def _render(
    user: UserRow, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    document = UserRead.model_validate(user, from_attributes=True)
    return json_response(document, status, _validators(user) | (headers or {}))


def _validators(user: UserRow) -> dict[str, str]:
    return {
        "ETag": _etag(user),
        "Last-Modified": _http_date(user.updated_at),
        "Cache-Control": "private, no-cache",
    }


def _etag(user: UserRow) -> str:
    return f'"{user.version}"'


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def _expected_versions() -> frozenset[int] | None:
    """Return the versions that If-Match names; None when any will do.

    An ETag that is weak or not ours names no version, and so never matches.
    """
    etags = request.if_match
    if request.headers.get("If-Match") is None or etags.star_tag:
        return None
    # Werkzeug gives None for an ETag that is empty.
    return frozenset(int(etag) for etag in etags if OUR_ETAG.fullmatch(etag or ""))
