from __future__ import annotations

from contextlib import closing
from itertools import count

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError

from chassis.storage.copying import copy_rows
from chassis.storage.database import DatabaseManager

pytestmark = pytest.mark.integration

TABLE = text(
    "CREATE TEMP TABLE copied (number text PRIMARY KEY, value text, shared text) ON COMMIT DROP"
)
CONTENT = text("SELECT number, value, shared FROM copied ORDER BY number::int")
# Without NUL and surrogates: PostgreSQL cannot store them, and the service lets neither in.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.fixture
def database(postgresql_url):
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        yield manager


def stored(database, rows, shared):
    """Copy rows into a new table and return what is in it."""
    with database.transaction() as connection:
        connection.execute(TABLE)
        copy_rows(connection, "copied", ["number", "value"], rows, {"shared": shared})
        return [tuple(row) for row in connection.execute(CONTENT)]


@given(st.lists(st.none() | texts, max_size=5), texts)
@example(["\\N", "\\.", None, "", "\t", "a\nb", "\r\n", "\\", "\\t", "\u2028", '"', "%s"], "\\N")
@example([None, "plain"], "\t\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_out_as_it_went_in(database, values, shared):
    rows = [(str(number), value) for number, value in zip(count(), values, strict=False)]

    assert stored(database, rows, shared) == [(*row, shared) for row in rows]


def test_values_longer_than_what_is_sent_at_a_time_arrive_whole(database):
    rows = [(str(number), "\\\u00eb\U0001f600" * 7001) for number in range(3)]

    assert stored(database, rows, "") == [(*row, "") for row in rows]


def test_rows_that_break_a_rule_leave_none_and_what_was_before_stays(database):
    with database.transaction() as connection:
        connection.execute(TABLE)
        copy_rows(connection, "copied", ["number"], [["1"]], {})
        with pytest.raises(IntegrityError), connection.begin_nested():
            copy_rows(connection, "copied", ["number"], [["2"], ["1"]], {})

        numbers = [row.number for row in connection.execute(CONTENT)]

    assert numbers == ["1"]


def test_what_does_not_fit_is_an_error_like_that_of_any_statement(database):
    with pytest.raises(DataError), database.transaction() as connection:
        copy_rows(connection, "users", ["id"], [["no id"]], {})
