"""/audit over HTTP."""

from __future__ import annotations

from flask import Blueprint, Response

from chassis.http.auth import Guard, requires
from chassis.http.context import backing_services
from chassis.http.operation import Operation
from chassis.http.pages import read_page
from chassis.http.web import NO_STORE
from userservice.scopes import Scope
from userservice.trail import service
from userservice.trail.schemas import EventPage, EventQuery

blueprint = Blueprint("audit", __name__)


@blueprint.get("/audit")
@requires(Guard.ADMINISTRATOR, Scope.AUDIT_READ)
@Operation(
    "Read the audit trail",
    tag="audit",
    query=EventQuery,
    returns={200: EventPage},
    response_headers={200: ("Link",)},
)
def list_audit_events() -> Response:
    """The newest deeds come first. Rows that are stored meanwhile move none to another page."""
    page = read_page(EventQuery)
    found = service.list_events(
        backing_services().database, page.query, before=page.after, limit=page.limit
    )
    response = page.response(EventPage, found)
    response.headers.update(NO_STORE)
    return response
