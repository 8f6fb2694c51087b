"""The statements that a block sends to the database."""

from __future__ import annotations

from contextlib import contextmanager

from sqlalchemy import event


@contextmanager
def sent_by(database):
    """Yield a list, to which each statement is added before it is sent; prepared ones, too."""
    sent = []

    def note(_cursor, statement, *_parameters):
        sent.append(statement)

    event.listen(database.engine, "do_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "do_execute", note)
