"""Rules and transactions for credentials, and the order of locks around log-ins.

A transaction that grants a token first calls `share_user`, or `lock_user` at a log-in. One that
ends log-ins first locks the user's row by `lock_user`, or changes it, and then deletes tokens. So a
grant is either committed before, and deleted as well, or it finds the user as the end left it. On
SQLite a transaction locks everything at its begin, and the order decides nothing.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from chassis.security import PasswordHasher
from chassis.signatures import AccessClaims
from chassis.storage.database import DatabaseManager
from chassis.telemetry.tracing import personal, set_attributes, trace_function
from userservice.logins import queries as logins
from userservice.users import credentials_queries as queries
from userservice.users.credentials_queries import Checked, CredentialsRow
from userservice.users.errors import UserNotFound, WrongPassword


def find_is_superuser(database: DatabaseManager, claims: AccessClaims) -> bool | None:
    """Tell whether the user of an access token is a superuser, in one statement.

    None when there is no such live user, or a suspended one, or when the token's log-in has ended.
    """
    with database.prepared() as connection:
        return queries.find_is_superuser(connection, claims)


def find_claims(database: DatabaseManager, claims: AccessClaims) -> dict[str, Any] | None:
    """Return the claims that the user of an access token has now, in one statement.

    None as above: the token holds no longer.
    """
    with database.prepared() as connection:
        return queries.find_claims(connection, claims)


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
) -> bool:
    """Replace a password hash by one of the same password with the current parameters.

    Returns:
        False, and nothing stored, when the hash is no longer `old_hash`.
    """
    with database.connection() as connection:
        return queries.replace_password_hash(
            connection, user_id, old_hash=old_hash, new_hash=new_hash
        )


def check_password(
    database: DatabaseManager, hasher: PasswordHasher, user_id: UUID, password: str
) -> Checked:
    """Return a live user whose password this is, as the check found the user.

    One password is verified in any case, so that the time does not tell whether there is one.

    Raises:
        WrongPassword: it is another one, or there is none.
        UserNotFound: there is no such live user.
        Unavailable: too many passwords are being hashed.
    """
    with database.connection() as connection:
        found = queries.find_checked(connection, user_id)
    is_right = hasher.verify(found.password_hash if found is not None else None, password)
    if found is None:
        raise UserNotFound
    if not is_right:
        raise WrongPassword
    return found


def share_user(connection: Connection, user_id: UUID) -> dict[str, Any] | None:
    """Return the claims of a user's tokens, and None without such a user, live and not suspended.

    Nobody suspends the user or ends its log-ins before the caller's transaction ends.
    """
    return queries.share_user(connection, user_id)


def lock_user(connection: Connection, user_id: UUID) -> CredentialsRow | None:
    """Return a live user's credentials; no token is granted before the caller's transaction ends.

    A caller that shares the row already must not lock it: two of them would wait for each other.
    """
    return queries.lock_user(connection, user_id)


def end_log_ins(connection: Connection, user_id: UUID, *, but: UUID | None = None) -> int | None:
    """End the log-ins of a live user, but for one; return how many, None without such a user.

    Tokens without `sid` end in any case: nobody knows their log-in.
    """
    if not queries.mark_sessions_ended(connection, user_id):
        return None
    return delete_log_ins(connection, user_id, but=but)


def delete_log_ins(connection: Connection, user_id: UUID, *, but: UUID | None = None) -> int:
    """Remove the log-ins of a user whose row this transaction has changed; return how many."""
    number = logins.count_living(connection, user_id, but=but)
    logins.delete_families(connection, user_id, but=but)
    return number
