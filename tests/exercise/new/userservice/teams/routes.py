"""/teams over HTTP: parse, call one service function, render."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.http.auth import Guard, caller_id, requires
from chassis.http.context import backing_services
from chassis.http.operation import Operation
from chassis.http.pages import read_page
from chassis.http.web import json_response, read_body
from chassis.schemas import PageQuery
from userservice.scopes import Scope
from userservice.teams import service
from userservice.teams.errors import TeamNotFound
from userservice.teams.queries import TeamRow
from userservice.teams.schemas import TeamCreate, TeamPage, TeamRead

blueprint = Blueprint("teams", __name__, url_prefix="/teams")


def find_owner(team_id: UUID) -> UUID | None:
    """Return whose team it is, for the guard."""
    return service.find_owner(backing_services().database, team_id)


@blueprint.post("")
@requires(Guard.USER)
@Operation(
    "Create a team",
    tag="teams",
    body=TeamCreate,
    returns={201: TeamRead},
    response_headers={201: ("Location",)},
)
def create_team() -> Response:
    """It belongs to the caller."""
    new = read_body(TeamCreate)
    team = service.create_team(backing_services().database, caller_id(), new)
    return _render(team, HTTPStatus.CREATED, {"Location": f"/teams/{team.id}"})


@blueprint.get("")
@requires(Guard.USER)
@Operation(
    "List one's teams",
    tag="teams",
    query=PageQuery,
    returns={200: TeamPage},
    response_headers={200: ("Link",)},
)
def list_teams() -> Response:
    """The oldest comes first."""
    page = read_page(PageQuery)
    database = backing_services().database
    teams = service.list_teams(database, caller_id(), after=page.after, limit=page.limit)
    return page.response(TeamPage, teams)


@blueprint.get("/<uuid:team_id>")
@requires(Guard.OWNER, Scope.TEAMS_READ, find_owner=find_owner)
@Operation("Read a team", tag="teams", returns={200: TeamRead}, raises=(TeamNotFound,))
def get_team(team_id: UUID) -> Response:
    """Users read their own."""
    return _render(service.get_team(backing_services().database, team_id))


def _render(
    team: TeamRow, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return json_response(TeamRead.model_validate(team, from_attributes=True), status, headers)
