"""Calls that do deeds: each function prepares a world, and returns the call."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import update

from app import make_token_issuer
from chassis.security import fingerprint
from chassis.storage.clock import database_time
from tests.deeds.world import KEY, NAME, NEW_PASSWORD, PASSWORD, REASON, ROLE, Call, World, address
from tests.support.factories import make_user
from userservice.keys import service as keys
from userservice.keys.schemas import KeyCreate
from userservice.logins.queries import find_log_in, tokens
from userservice.scopes import Scope
from userservice.users.links import Purpose

FORMER = timedelta(days=1)


def log_in(world: World) -> Call:
    form = {"grant_type": "password", "username": world.user.email, "password": PASSWORD}
    return Call("POST", "/auth/token", form=form)


def reuse(world: World) -> Call:
    """Send a refresh token that was spent long ago."""
    spent = world.log_in().refresh_token
    issuer = make_token_issuer(world.config)
    with world.database.transaction() as connection:
        log_in = find_log_in(connection, fingerprint(spent.encode()))
        assert log_in is not None
        issuer.renew(connection, log_in, spent)
        connection.execute(
            update(tokens)
            .where(tokens.c.spent_at.is_not(None))
            .values(spent_at=database_time(-FORMER))
        )
    return Call("POST", "/auth/token", form={"grant_type": "refresh_token", "refresh_token": spent})


def log_out(world: World) -> Call:
    return Call("POST", "/auth/revoke", form={"token": world.log_in().refresh_token})


def end_session(world: World) -> Call:
    token = world.log_in().access_token
    session = make_token_issuer(world.config).access_tokens.read(token).session_id
    return Call("DELETE", f"{world.path}/sessions/{session}", KEY)


def end_sessions(world: World) -> Call:
    return Call("DELETE", f"{world.path}/sessions", world.bearer)


def change_password(world: World) -> Call:
    document = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    return Call("PUT", f"{world.path}/password", world.bearer, document)


def reset(purpose: Purpose) -> Callable[[World], Call]:
    def call(world: World) -> Call:
        world.log_in()
        document = {"token": world.link(purpose), "new_password": NEW_PASSWORD}
        return Call("POST", "/auth/password/reset", json=document)

    return call


def recover(world: World) -> Call:
    return Call("POST", f"{world.path}/recovery", KEY)


def change_email(world: World) -> Call:
    document = {"email": address(), "current_password": PASSWORD}
    return Call("POST", f"{world.path}/email", world.bearer, document)


def confirm(world: World) -> Call:
    world.write(pending_email=address(), stamp="1" * 32)
    return _confirm(world, Purpose.CHANGE)


def confirm_in_vain(world: World) -> Call:
    """Confirm an address that another user has by now."""
    other = make_user(world.database, email=address())
    world.write(pending_email=other.email, stamp="1" * 32)
    return _confirm(world, Purpose.CHANGE)


def verify(world: World) -> Call:
    return _confirm(world, Purpose.VERIFICATION)


def _confirm(world: World, purpose: Purpose) -> Call:
    return Call("POST", "/auth/email/confirm", world.bearer, {"token": world.link(purpose)})


def patch(**members: str) -> Callable[[World], Call]:
    def call(world: World) -> Call:
        document = {**members, **({"email": address()} if "email" in members else {})}
        return Call("PATCH", world.path, KEY, document)

    return call


def delete(world: World) -> Call:
    return Call("DELETE", world.path, world.bearer)


def erase(world: World) -> Call:
    world.log_in()
    return Call("DELETE", f"{world.path}?erase=now", KEY)


def suspend(world: World) -> Call:
    world.log_in()
    return Call("PUT", f"{world.path}/suspension", KEY, {"reason": REASON})


def suspend_for_another_reason(world: World) -> Call:
    world.write(suspended_at=datetime.now(UTC), suspension_reason="Another")
    return suspend(world)


def reinstate(world: World) -> Call:
    world.write(suspended_at=datetime.now(UTC))
    return Call("DELETE", f"{world.path}/suspension", KEY)


def promote(world: World) -> Call:
    by = world.act_as_superuser()
    return Call("PUT", f"{world.path}/superuser", by, {"current_password": PASSWORD})


def demote(world: World) -> Call:
    world.write(is_superuser=True)
    return Call("DELETE", f"{world.path}/superuser", world.act_as_superuser())


def set_roles(world: World) -> Call:
    return Call("PUT", f"{world.path}/roles", KEY, {"roles": [ROLE]})


def make_key(world: World) -> Call:
    document = {"name": NAME, "scopes": [Scope.USERS_READ], "current_password": PASSWORD}
    return Call("POST", "/api-keys", world.act_as_superuser(), document)


def revoke_key(world: World) -> Call:
    new = KeyCreate.model_validate({"name": NAME, "scopes": [Scope.USERS_READ]})
    world.target = keys.create_key(world.database, new).row.id.hex
    return Call("DELETE", f"/api-keys/{world.target}", KEY)


def register(**headers: str) -> Callable[[World], Call]:
    def call(_world: World) -> Call:
        document = {"email": address(), "name": NAME}
        return Call("POST", "/users", KEY | headers, document)

    return call


def register_once(world: World) -> Call:
    return register(**{"Idempotency-Key": uuid4().hex})(world)
