"""New passwords: the ways to get one, and what is looked at afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from app import make_token_issuer
from chassis.background import outbox
from chassis.errors import Unavailable
from chassis.security import PasswordHasher
from userservice.passwords import service
from userservice.passwords.schemas import PasswordChange, PasswordReset
from userservice.tokens import service as tokens
from userservice.tokens.service import PasswordGrant
from userservice.users import credentials, links
from userservice.users.links import Purpose
from userservice.users.queries import users

OLD = "correct horse battery"
NEW = "another sentence of length"
MAILED = (Purpose.RESET, Purpose.INVITATION)
LINKED = (*MAILED, Purpose.PRINTED)


class CountingHasher(PasswordHasher):
    """A cheap hasher that counts its work, and can be told that it is full."""

    def __init__(self):
        super().__init__(memory_kib=8, time_cost=1)
        self.hashed = self.verified = 0
        self.is_full = False

    def hash(self, password):
        if self.is_full:
            raise Unavailable
        self.hashed += 1
        return super().hash(password)

    def verify(self, password_hash, password):
        self.verified += 1
        return super().verify(password_hash, password)


def row_of(services, user):
    with services.database.connection() as connection:
        return connection.execute(select(users).where(users.c.id == user.id)).one()


def write(services, user, **values):
    with services.database.connection() as connection:
        connection.execute(users.update().where(users.c.id == user.id).values(values))


def topics(services):
    with services.database.connection() as connection:
        return sorted(connection.scalars(select(outbox.messages.c.topic)))


def claimed(services):
    """Claim all messages that are due, as a worker does."""
    with services.database.connection() as connection:
        return outbox.claim(connection, limit=100, lease=timedelta(seconds=15))


def make_token(services, user, purpose=Purpose.RESET):
    return links.make_link(services, purpose, user.id, datetime.now(UTC))[1]


def change(services, user, current=OLD, new=NEW, keep=None):
    document = PasswordChange.load_values({"current_password": current, "new_password": new})
    service.change_password(services, user.id, document, keep=keep)


def reset(services, token, new=NEW):
    service.reset_password(
        services, PasswordReset.load_values({"token": token, "new_password": new})
    )


def log_in(services, config, user, password):
    grant = PasswordGrant(user.email, password)
    return tokens.log_in(services.database, services.hasher, make_token_issuer(config), grant)


def holds(services, config, pair):
    claims = make_token_issuer(config).access_tokens.read(pair.access_token)
    return credentials.find_is_superuser(services.database, claims) is not None


def session_of(config, pair):
    return make_token_issuer(config).access_tokens.read(pair.access_token).session_id
