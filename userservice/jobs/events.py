"""Handlers of messages about jobs."""

from __future__ import annotations

from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.telemetry.tracing import trace_function
from userservice.jobs import imports, service


@trace_function("import_users")
def import_step(services: BackingServices, message: Message) -> bool:
    """Do the next step of an import."""
    job_id = UUID(message.payload["job_id"])
    return imports.run_import_step(services, job_id, seconds=imports.STEP_SECONDS)


def fail_import(services: BackingServices, message: Message, reason: str) -> None:
    """Mark an import as failed."""
    service.fail_job(services.database, UUID(message.payload["job_id"]), reason)


HANDLERS = {service.IMPORT_STEP: import_step}
ABANDONED_HANDLERS = {service.IMPORT_STEP: fail_import}
