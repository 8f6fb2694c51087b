"""/users/{id}/sessions over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.http.auth import Guard, principal, requires
from chassis.http.context import backing_services
from chassis.http.operation import Operation
from chassis.http.web import PRIVATE, empty_response, json_response, read_query
from chassis.storage.ids import moment_of
from userservice.logins.queries import SessionRow
from userservice.scopes import Scope
from userservice.sessions import service
from userservice.sessions.errors import SessionNotFound
from userservice.sessions.schemas import EndQuery, SessionList, SessionRead
from userservice.users.errors import SuperuserProtected, UserNotFound

blueprint = Blueprint("sessions", __name__, url_prefix="/users/<uuid:user_id>/sessions")


@blueprint.get("")
@requires(Guard.OWNER, Scope.USERS_ADMIN)
@Operation("List log-ins", tag="sessions", returns={200: SessionList}, raises=(UserNotFound,))
def list_sessions(user_id: UUID) -> Response:
    """The hundred newest that live; a user has no more, because another one ends the oldest."""
    rows = service.list_sessions(backing_services().database, user_id)
    own = _own_session()
    items = [_document(each, is_current=each.id == own) for each in rows]
    return json_response(SessionList(items=items), headers={"Cache-Control": PRIVATE})


@blueprint.delete("/<uuid:session_id>")
@requires(Guard.OWNER, Scope.USERS_ADMIN)
@Operation(
    "End a log-in",
    tag="sessions",
    returns={204: None},
    raises=(UserNotFound, SessionNotFound, SuperuserProtected),
)
def end_session(user_id: UUID, session_id: UUID) -> Response:
    """Its refresh token and its access tokens end at once."""
    service.end_session(backing_services().database, user_id, session_id)
    return empty_response(HTTPStatus.NO_CONTENT)


@blueprint.delete("")
@requires(Guard.SELF)
@Operation(
    "End all log-ins, or all others",
    tag="sessions",
    query=EndQuery,
    returns={204: None},
    raises=(UserNotFound,),
)
def end_sessions(user_id: UUID) -> Response:
    """Only the user may: to end all log-ins of somebody else, end them one by one.

    An access token that names no log-in, from a release before, ends with the others.
    """
    keep = _own_session() if read_query(EndQuery).keep else None
    service.end_sessions(backing_services().database, user_id, keep=keep)
    return empty_response(HTTPStatus.NO_CONTENT)


def _own_session() -> UUID | None:
    caller = principal()
    return caller.session_id if caller is not None else None


def _document(row: SessionRow, *, is_current: bool) -> SessionRead:
    return SessionRead(**row._asdict(), created_at=moment_of(row.id), current=is_current)
