"""Rules and transactions for credentials."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from chassis.storage.database import DatabaseManager
from chassis.telemetry.tracing import personal, set_attributes, trace_function
from userservice.users import credentials_queries as queries
from userservice.users.credentials_queries import CredentialsRow


def find_is_superuser(database: DatabaseManager, user_id: UUID) -> bool | None:
    """Tell whether a live user is a superuser; None when there is no such user."""
    with database.prepared() as connection:
        return queries.find_is_superuser(connection, user_id)


def is_live(connection: Connection, user_id: UUID) -> bool:
    """Tell, within the caller's transaction, whether a user exists and is not deleted."""
    return queries.find_is_superuser(connection, user_id) is not None


@trace_function("user_service.get_user_by_email")
def find_credentials(database: DatabaseManager, email: str) -> CredentialsRow | None:
    """Return the credentials of the live user with this address, in any spelling."""
    with database.prepared() as connection:
        credentials = queries.find_credentials(connection, email)
    set_attributes(
        {
            "operation.result": "not_found" if credentials is None else "found",
            **personal({"query.parameter.email": email}),
        }
    )
    return credentials


def store_password_hash(
    database: DatabaseManager, user_id: UUID, old_hash: str, new_hash: str
) -> None:
    """Replace a password hash by one of the same password with the current parameters."""
    with database.connection() as connection:
        queries.replace_password_hash(connection, user_id, old_hash=old_hash, new_hash=new_hash)
