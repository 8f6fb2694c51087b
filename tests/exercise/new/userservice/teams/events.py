"""Handlers of messages about teams."""

from __future__ import annotations

from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from userservice.teams import service
from userservice.teams.errors import TeamNotFound
from userservice.users import service as users
from userservice.users.errors import UserNotFound


def confirm_team(services: BackingServices, message: Message) -> bool:
    """Tell the owner that the team is there; False when one of them is not, or no way to.

    Raises:
        Unavailable: the e-mail was not taken, and is to be tried again.
    """
    try:
        team = service.get_team(services.database, UUID(message.payload["team_id"]))
        owner = users.get_user(services.database, team.owner_id)
    except (TeamNotFound, UserNotFound):
        return False
    return services.mailer.send(
        "team_created", to=owner.email, variables={"team": team.name}, key=str(message.id)
    )


HANDLERS = {service.TEAM_CREATED: confirm_team}
