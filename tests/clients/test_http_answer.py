from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clients.http_answer import (
    HEAD_BYTES,
    AnswerReader,
    UnreadableAnswer,
    parse_retry_after,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1),
        ("120", 120),
        ("86400", 86400),
        ("86401", 86400),
        ("9" * 5000, 86400),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30),
        ("Sun Mar  1 12:00:30 2026", 30),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
    ],
)
def test_a_wait_is_read_in_each_of_its_forms_and_a_day_at_most(value, seconds):
    assert parse_retry_after(value, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "-1", "1.5", "1e3", "1, 2", "\u0661", "soon"),
        "Sun, 01 Mar 2026 12:00:00 GMT",
        "Sun, 99 Mar 2026 12:00:30 GMT",
        "Sun, 01 Jan 0001 00:00:00 +2359",
    ],
)
def test_anything_else_is_no_wait(value):
    assert parse_retry_after(value, NOW) is None


@given(st.text() | st.from_regex(r"[0-9]+", fullmatch=True))
def test_whatever_stands_there_a_wait_is_a_day_at_most(value):
    wait = parse_retry_after(value, NOW)

    assert wait is None or timedelta(0) < wait <= DAY


@given(st.binary(max_size=200), st.integers(1, 50))
def test_whatever_arrives_is_read_or_refused(data, size):
    reader = AnswerReader()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]

    try:
        for piece in pieces:
            reader.feed(piece)
    except UnreadableAnswer:
        assert reader.answer is None


@given(st.integers(1, 100))
def test_an_answer_is_read_the_same_however_it_is_cut(size):
    data = (
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 5\r\n\r\n"
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nRetry-After: 9\r\n\r\n"
    )
    reader = AnswerReader()

    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])

    assert reader.answer == (429, timedelta(seconds=7))
    assert (reader.is_over, reader.is_clean) == (True, True)


def test_heads_of_interim_answers_count_together():
    reader = AnswerReader()
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    for _ in range(HEAD_BYTES // len(interim)):
        reader.feed(interim)

    with pytest.raises(UnreadableAnswer):
        reader.feed(interim)

    assert reader.answer is None
