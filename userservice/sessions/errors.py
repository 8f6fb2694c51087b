"""Expected failures about sessions."""

from __future__ import annotations

from chassis.errors import NotFound


class SessionNotFound(NotFound):
    """The user has no log-in with this id, or it has ended."""

    code = "session_not_found"
    title = "Session not found"
    remedy = "List the sessions of the user. One that has ended does not come back."
