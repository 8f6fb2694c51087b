"""Expected failures about teams."""

from __future__ import annotations

from chassis.errors import NotFound


class TeamNotFound(NotFound):
    """There is no team with this id."""

    code = "team_not_found"
    title = "Team not found"
