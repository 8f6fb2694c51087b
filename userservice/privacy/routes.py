"""A person's data over HTTP: handed out, deleted, erased."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.errors import PreconditionFailed
from chassis.http.auth import Guard, is_privileged, require_part, requires
from chassis.http.conditions import CHANGE_CONDITIONS, expected_versions
from chassis.http.context import backing_services
from chassis.http.operation import Operation
from chassis.http.rate_limit import limit
from chassis.http.web import PRIVATE, empty_response, json_response, read_query
from chassis.storage.database import DatabaseManager
from userservice.privacy import service
from userservice.privacy.schemas import DeletionQuery, ExportRead
from userservice.scopes import Scope
from userservice.users.errors import LastSuperuser, SuperuserProtected, UserNotFound
from userservice.users.service import delete_user as delete_softly
from userservice.users.service import get_user

blueprint = Blueprint("privacy", __name__, url_prefix="/users/<uuid:user_id>")


@blueprint.get("/export")
@requires(Guard.OWNER, Scope.USERS_EXPORT, parts={"suspension_reason": Scope.USERS_ADMIN})
@limit("export")
@Operation(
    "Read all that is stored of a user",
    tag="privacy",
    returns={200: ExportRead},
    raises=(UserNotFound,),
    response_headers={200: ("Content-Disposition",)},
)
def export_user(user_id: UUID) -> Response:
    """Hashes of the password and of tokens are left out. The sessions are those that live.

    The deeds are those of the audit trail, to the user or of the user, without the ids of others.

    The reason of a suspension is for administrators alone, as are messages to an address that
    waits for its confirmation: their fate tells whether another user has it.
    """
    database = backing_services().database
    is_whole = is_privileged("suspension_reason")
    document = service.export_person(database, user_id, is_whole=is_whole)
    headers = {
        "Cache-Control": PRIVATE,
        "Content-Disposition": f'attachment; filename="user-{user_id}.json"',
    }
    return json_response(document, headers=headers)


@blueprint.delete("")
@requires(Guard.OWNER, Scope.USERS_WRITE, parts={"erase=now": Scope.USERS_ADMIN})
@Operation(
    "Delete a user",
    tag="users",
    query=DeletionQuery,
    returns={204: None},
    raises=(UserNotFound, PreconditionFailed, LastSuperuser, SuperuserProtected),
    request_headers=CHANGE_CONDITIONS,
)
def delete_user(user_id: UUID) -> Response:
    """The user is gone for every caller at once, and the row is purged later.

    With erase=now administrators remove all that is stored of a user, also of one who is deleted
    already. A service cannot erase a superuser.
    """
    database = backing_services().database
    if read_query(DeletionQuery).erase is None:
        versions = expected_versions(partial(get_user, database, user_id))
        delete_softly(database, user_id, versions=versions)
    else:
        _erase(database, user_id)
    return empty_response(HTTPStatus.NO_CONTENT)


def _erase(database: DatabaseManager, user_id: UUID) -> None:
    require_part("erase=now")
    versions = expected_versions(partial(service.find_version, database, user_id))
    service.erase(database, user_id, versions=versions)
