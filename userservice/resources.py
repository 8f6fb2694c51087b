"""The list of resources, from which the processes take all parts. A new resource is a line here."""

from __future__ import annotations

from chassis.background import upkeep
from chassis.http import docs, health, metrics, problem_pages
from chassis.http.openapi import Api
from chassis.resource import Resource, merge
from chassis.storage import idempotency
from chassis.storage.tables import Purge
from userservice import SERVICE_NAME
from userservice.account.resource import RESOURCE as ACCOUNT
from userservice.discovery.resource import RESOURCE as DISCOVERY
from userservice.emails.resource import RESOURCE as EMAILS
from userservice.jobs.resource import RESOURCE as JOBS
from userservice.keys.resource import RESOURCE as KEYS
from userservice.operators.resource import RESOURCE as OPERATORS
from userservice.passwords.resource import RESOURCE as PASSWORDS
from userservice.privacy.resource import RESOURCE as PRIVACY
from userservice.scopes import MEANINGS
from userservice.sessions.resource import RESOURCE as SESSIONS
from userservice.standing.resource import RESOURCE as STANDING
from userservice.tokens.errors import oauth_members
from userservice.tokens.resource import RESOURCE as TOKENS
from userservice.tokens.routes import blueprint as tokens
from userservice.trail.resource import RESOURCE as TRAIL
from userservice.users.resource import RESOURCE as USERS

# A resource stands below those that its rows refer to: a cleanup begins at the end.
RESOURCES = (
    USERS,
    JOBS,
    Resource(name="outbox", tables=upkeep.TABLES),
    TOKENS,
    DISCOVERY,
    SESSIONS,
    EMAILS,
    STANDING,
    PRIVACY,
    PASSWORDS,
    KEYS,
    OPERATORS,
    TRAIL,
    Resource(name="idempotency", tables=idempotency.TABLES),
    Resource(name="health", blueprint=health.blueprint, tags=health.TAGS),
    Resource(name="metrics", blueprint=metrics.blueprint),
    Resource(name="docs", blueprint=docs.blueprint),
    Resource(name="problems", blueprint=problem_pages.blueprint),
    ACCOUNT,
)

BLUEPRINTS = tuple(each.blueprint for each in RESOURCES if each.blueprint is not None)
EVENT_HANDLERS = merge(each.handlers for each in RESOURCES)
EVENT_READERS = merge(each.readers for each in RESOURCES)
ABANDONED_HANDLERS = merge(each.abandoned_handlers for each in RESOURCES)
TABLES = merge(each.tables for each in RESOURCES)
PURGES = {table: rule for table, rule in reversed(TABLES.items()) if isinstance(rule, Purge)}

API = Api(
    description="Registers users and keeps what is known of them.",
    contact=f"The operators of {SERVICE_NAME}",
    tags=merge(each.tags for each in RESOURCES),
    token_path=f"{tokens.url_prefix}/token",
    scopes=MEANINGS,
)
# Prefix of a path -> function that returns further members of the problem documents below it.
PROBLEM_MEMBERS = {f"{tokens.url_prefix}/": oauth_members}


def prepare_metrics() -> None:
    """Show what the resources count from the start of a process."""
    for each in RESOURCES:
        each.prepare_metrics()
