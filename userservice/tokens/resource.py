"""The parts that tokens add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from chassis.storage.tables import purge_expired
from userservice.logins import metrics
from userservice.tokens import routes, service

RESOURCE = Resource(
    name="tokens",
    blueprint=routes.blueprint,
    tags={"auth": "Log in, stay logged in, log out (OAuth 2)."},
    prepare_metrics=metrics.prepare,
    tables={
        "refresh_tokens": purge_expired(service.count_expired_tokens, service.purge_expired_tokens)
    },
)
