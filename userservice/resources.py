"""Every blueprint; a new resource is listed here."""

from __future__ import annotations

from chassis.http import docs, health, metrics
from chassis.http.openapi import Api
from chassis.storage import idempotency  # noqa: F401 - idempotency has a table
from userservice.jobs import events as jobs_events
from userservice.jobs import routes as jobs
from userservice.tokens import routes as tokens
from userservice.tokens.errors import oauth_members
from userservice.users import events as users_events
from userservice.users import routes as users

EVENT_HANDLERS = {**users_events.HANDLERS, **jobs_events.HANDLERS}
ABANDONED_HANDLERS = jobs_events.ABANDONED

BLUEPRINTS = (
    users.blueprint,
    jobs.blueprint,
    tokens.blueprint,
    health.blueprint,
    metrics.blueprint,
    docs.blueprint,
)

API = Api(
    description="Registers users and keeps what is known of them.",
    token_path=f"{tokens.blueprint.url_prefix}/token",
)
# Path -> what problem documents below it say besides.
PROBLEM_MEMBERS = {f"{tokens.blueprint.url_prefix}/": oauth_members}
