"""A deed that is asked for twice at once is done once, and has one row in the trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import pytest

from chassis.backing_services import BackingServices
from chassis.errors import AppError
from config import AppConfig
from tests.support.deeds import deeds
from tests.support.factories import begin_log_in, make_user
from tests.support.orders import hold_everywhere
from userservice.emails import confirmation
from userservice.jobs import service as jobs
from userservice.jobs import uploads
from userservice.jobs.models import UploadFormat
from userservice.keys import service as keys
from userservice.keys.schemas import KeyCreate
from userservice.passwords import service as passwords
from userservice.passwords.schemas import PasswordReset
from userservice.privacy import service as privacy
from userservice.sessions import service as sessions
from userservice.standing import rights
from userservice.standing import service as standing
from userservice.tokens import service as tokens
from userservice.users import links
from userservice.users import service as users
from userservice.users.links import Purpose


@dataclass
class Scene:
    """A user, and what deeds to the user need."""

    services: BackingServices
    config: AppConfig
    user_id: UUID

    @property
    def database(self):
        return self.services.database

    def link(self, purpose):
        """Return the token of a link that holds."""
        return links.make_link(self.services, purpose, self.user_id, datetime.now(UTC))[1]

    def refresh_token(self):
        """Begin a log-in."""
        return begin_log_in(self.database, self.config, self.user_by_id()).refresh_token

    def user_by_id(self):
        return users.get_user(self.database, self.user_id)


def verify(scene):
    return partial(
        confirmation.confirm, scene.services, scene.user_id, scene.link(Purpose.VERIFICATION)
    )


def reset(scene):
    wish = {"token": scene.link(Purpose.RESET), "new_password": "a battery of correct horses"}
    return partial(passwords.reset_password, scene.services, PasswordReset.load_values(wish))


def log_out(scene):
    return partial(tokens.revoke, scene.database, scene.refresh_token())


def end_session(scene):
    scene.refresh_token()
    (session,) = sessions.list_sessions(scene.database, scene.user_id)
    return partial(sessions.end_session, scene.database, scene.user_id, session.id)


def end_sessions(scene):
    scene.refresh_token()
    return partial(sessions.end_sessions, scene.database, scene.user_id)


def reinstate(scene):
    standing.suspend(scene.database, scene.user_id)
    return partial(standing.reinstate, scene.database, scene.user_id)


def demote(scene):
    rights.promote(scene.database, scene.user_id)
    return partial(rights.demote, scene.database, scene.user_id)


def revoke_key(scene):
    new = KeyCreate(name="crm", scopes=["users:read"])
    return partial(keys.revoke_key, scene.database, keys.create_key(scene.database, new).row.id)


def cancel_import(scene):
    job = uploads.start_import(scene.database, UploadFormat.NDJSON, [b"{}"])
    return partial(jobs.cancel_job, scene.database, job.id)


def of_user(function, *arguments):
    """Return what makes a deed to a user that needs nothing else."""
    return lambda scene: partial(function, scene.database, scene.user_id, *arguments)


# Action -> makes what is done twice at once.
DEEDS = {
    "email.verified": verify,
    "password.reset": reset,
    "session.logged_out": log_out,
    "session.ended": end_session,
    "sessions.ended": end_sessions,
    "user.suspended": of_user(standing.suspend, "spam"),
    "user.reinstated": reinstate,
    "user.roles_set": of_user(standing.set_roles, ["clerk"]),
    "user.promoted": of_user(rights.promote),
    "user.demoted": demote,
    "user.deleted": of_user(users.delete_user),
    "user.erased": of_user(privacy.erase),
    "key.revoked": revoke_key,
    "import.cancelled": cancel_import,
}


@pytest.mark.parametrize("action", DEEDS)
def test_what_is_asked_for_twice_at_once_has_one_row(config, services, action):
    database = services.database
    make_user(database, email="root@example.com", is_superuser=True, password="a long passphrase")
    rows = 0

    def prepare():
        deed = DEEDS[action](Scene(services, config, make_user(database).id))
        return deed, deed

    def check():
        nonlocal rows
        assert len(deeds(database, action)) == (rows := rows + 1)

    # The second may find nothing to do.
    expected = (AppError,) if action != "email.verified" else ()
    assert hold_everywhere(database, prepare, check, *expected)
