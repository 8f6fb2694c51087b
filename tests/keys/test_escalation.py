"""No chain of calls leads from a key to a superuser's account, or to scopes that the key lacks."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from sqlalchemy import select

from tests.keys.test_superusers import DEEDS, stored
from tests.support.factories import begin_log_in, make_user
from tests.support.keys import key_of
from tests.support.routes import accesses
from userservice.jobs import imports
from userservice.jobs.queries import jobs
from userservice.keys.models import ApiKey
from userservice.logins.models import RefreshToken
from userservice.scopes import Scope
from userservice.users.queries import users

PASSWORD = "correct horse battery"
ALL = frozenset(Scope)
KEYS = {
    **{f"only {each}": frozenset({each}) for each in Scope},
    **{f"all but {each}": ALL - {each} for each in Scope},
    "all scopes": ALL,
}
# Method and rule -> why no chain begins there: the route takes no key, and looks at none.
WITHOUT_KEYS = {
    ("POST", "/auth/token"): "a password or a refresh token",
    ("POST", "/auth/revoke"): "a refresh token",
    ("POST", "/auth/password/reset"): "a link from a mailbox",
    ("POST", "/auth/email/confirm"): "a user's log-in, and a link from a mailbox",
    ("DELETE", "/jobs/<uuid:job_id>"): "a job, whose users are new",
}


class Attacker:
    """Holds a key, has a mailbox and, as soon as the key allows it, an account of its own."""

    def __init__(self, client, key):
        self.client = client
        self.key = key
        self.asked: set[tuple[str, str]] = set()

    def open(self, path, *, method, headers, **options):
        """Ask as a test client does, and note the route."""
        routes = self.client.application.url_map.bind("localhost")
        rule, _ = routes.match(path.partition("?")[0], method, return_rule=True)
        self.asked.add((method, rule.rule))
        return self.client.open(path, method=method, headers=headers, **options)

    def ask(self, method, path, headers=None, **options):
        """Ask with the key, or as a user."""
        return self.open(path, method=method, headers=headers or self.key, **options)

    def take_over(self, held, other):
        """Try all that might lead to a superuser's account; `other` is a user who is none."""
        victim, _ = held
        for deed in DEEDS.values():
            deed(self, held, self.key)
        self._claim_address(victim)
        own = self._register()
        self._act_as_user(victim, own)
        self._move(other, victim)
        self._reach_for_rights(victim, own)
        self._reach_for_scopes()

    def _claim_address(self, victim):
        mine = {"email": victim.email, "name": "Mine", "password": PASSWORD, "is_superuser": True}
        self.ask("POST", "/users", json=mine)
        line = mine | {"id": str(victim.id), "email_verified": True, "roles": ["admin"]}
        media_type = {"content_type": "application/x-ndjson"}
        self.ask("POST", "/users/import", data=json.dumps(line), **media_type)
        self.ask("POST", "/auth/password/forgot", json={"email": victim.email})

    def _register(self):
        """Register an account with a password, and log in; return the header of the log-in."""
        account = {"email": "attacker@example.com", "name": "Attacker", "password": PASSWORD}
        self.ask("POST", "/users", json=account | {"is_superuser": True})
        form = {"grant_type": "password", "username": account["email"], "password": PASSWORD}
        tokens = self.client.post("/auth/token", data=form).json
        self.ask("POST", "/auth/introspect", data={"token": tokens["access_token"]})
        return {"Authorization": f"Bearer {tokens['access_token']}"}

    def _act_as_user(self, victim, own):
        path = f"/users/{victim.id}"
        guess = {"current_password": PASSWORD}
        for headers in (self.key, own):
            password = guess | {"new_password": "another long phrase"}
            self.ask("PUT", f"{path}/password", headers, json=password)
            self.ask("POST", f"{path}/email", headers, json=guess | {"email": "m@example.com"})
            self.ask("POST", f"{path}/email/verification", headers)
            self.ask("DELETE", f"{path}/sessions", headers)
        for deed in DEEDS.values():
            deed(self, (victim, victim.id), own)

    def _move(self, other, victim):
        for email in (victim.email, f"  {victim.email.upper()} ", "attacker2@example.com"):
            self.ask("PATCH", f"/users/{other.id}", json={"email": email})
        self.ask("POST", f"/users/{other.id}/recovery")

    def _reach_for_rights(self, victim, own):
        own_id = self.client.get("/users/me", headers=own).json["id"]
        for headers in (self.key, own):
            for user_id in (own_id, victim.id):
                path = f"/users/{user_id}/superuser"
                self.ask("PUT", path, headers, json={"current_password": PASSWORD})
                self.ask("DELETE", path, headers)
        self.ask("PUT", f"/users/{own_id}/roles", json={"roles": ["superuser", "users:admin"]})

    def _reach_for_scopes(self):
        """Ask for keys with each scope, and with all."""
        for scopes in (*([each] for each in Scope), [*Scope]):
            self.ask("POST", "/api-keys", json={"name": "Mine", "scopes": scopes})
        self.ask("DELETE", f"/api-keys/{uuid4().hex}")


@pytest.fixture
def victim(database, config):
    """A superuser with a log-in; returns the user and the log-in."""
    user = make_user(database, is_superuser=True, password="the password of a superuser")
    make_user(database, is_superuser=True, password="the password of a superuser")
    begin_log_in(database, config, user)
    with database.connection() as connection:
        own = select(RefreshToken.family_id).where(RefreshToken.user_id == user.id)
        return user, connection.execute(own).scalar_one()


def work(services):
    """Do the imports that wait."""
    with services.database.connection() as connection:
        waiting = [row.id for row in connection.execute(select(jobs.c.id))]
    for job_id in waiting:
        while imports.run_import_step(services, job_id):
            pass


def superusers(database):
    with database.connection() as connection:
        rows = connection.execute(select(users.c.id).where(users.c.is_superuser))
        return {row.id for row in rows}


def given_scopes(database):
    """Return the scopes of all keys."""
    with database.connection() as connection:
        rows = connection.execute(select(ApiKey.scopes))
        return {scope for row in rows for scope in row.scopes}


@pytest.mark.parametrize("scopes", KEYS.values(), ids=KEYS)
def test_no_chain_leads_to_a_superuser_or_to_another_scope(
    client, database, services, victim, scopes
):
    user, _ = victim
    attacker = Attacker(client, key_of(database, *scopes))
    before, rights = stored(database, user), superusers(database)

    attacker.take_over(victim, make_user(database))
    work(services)

    rows, sent = stored(database, user)
    assert rows == before[0]
    # A forgotten password is for everyone to say, and its link goes to the superuser's mailbox.
    assert len(sent) == len(before[1]) + 1
    assert superusers(database) == rights
    assert given_scopes(database) <= scopes


def test_the_chains_leave_out_no_route_that_changes_something(app, client, database, victim):
    attacker = Attacker(client, key_of(database, *Scope))

    attacker.take_over(victim, make_user(database))

    changing = {route for route in accesses(app) if route[0] not in {"GET", "HEAD"}}
    assert changing - attacker.asked == set(WITHOUT_KEYS)
