"""An answer has one head, which says where its body ends and whether the connection does."""

from __future__ import annotations

import pytest

from chassis.http.answer import PIECE_BYTES, Answer, InvalidAnswer, refuse
from chassis.http.reader import Reader
from chassis.http.request import Limits, Request


def answer(
    parts,
    headers=(),
    *,
    status="200 OK",
    request=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    may_keep=True,
):
    """Make an answer whole; return it with its head and its body as they are sent."""
    reader = Reader({}, Limits())
    reader.feed(request)

    def application(_environ, start_response):
        start_response(status, list(headers))
        return parts

    made = Answer(arrived(reader), lambda: may_keep)
    data = b"".join(made.begin(application))
    while not made.is_over:
        data += b"".join(made.more())
    head, _, body = data.partition(b"\r\n\r\n")
    return made, head.decode().split("\r\n"), body


def arrived(reader):
    """Return the request that has arrived."""
    request = reader.arrived.popleft()
    assert isinstance(request, Request)
    return request


OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
PIECE = b"a" * PIECE_BYTES


def test_a_body_in_hand_has_its_length():
    made, head, body = answer([b"one", b"two"])

    assert head[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 6" in head
    assert body == b"onetwo"
    assert not made.closes


def test_a_stream_is_chunked():
    made, head, body = answer(iter([PIECE, b"end"]))

    assert "Transfer-Encoding: chunked" in head
    assert body == b"10000\r\n" + PIECE + b"\r\n3\r\nend\r\n0\r\n\r\n"
    assert not made.closes


def test_to_an_old_client_a_stream_ends_with_the_connection():
    made, head, body = answer(iter([PIECE, b"end"]), request=OLD_KEPT)

    assert not any(each.startswith(("Transfer-Encoding", "Content-Length")) for each in head)
    assert "Connection: close" in head
    assert made.closes
    assert body == PIECE + b"end"


@pytest.mark.parametrize(
    ("request_text", "may_keep", "field"),
    [
        (OLD, True, "Connection: close"),
        (OLD_KEPT, True, "Connection: keep-alive"),
        (OLD_KEPT, False, "Connection: close"),
        (HEAD, False, "Connection: close"),
    ],
)
def test_the_head_says_whether_the_connection_is_kept(request_text, may_keep, field):
    made, head, _ = answer([b"body"], request=request_text, may_keep=may_keep)

    assert [each for each in head if each.startswith("Connection")] == [field]
    assert made.closes is (field == "Connection: close")


@pytest.mark.parametrize(
    ("status", "request_text", "length"),
    [
        ("200 OK", HEAD, "4"),
        ("204 No Content", OLD_KEPT, None),
        ("304 Not Modified", OLD_KEPT, None),
    ],
)
def test_where_there_is_no_body_none_is_sent(status, request_text, length):
    headers = [("Content-Length", length)] if length else []

    made, head, body = answer([b"body"], headers, status=status, request=request_text)

    assert body == b""
    assert ("Content-Length: 4" in head) is bool(length)
    assert not made.closes


def test_no_more_is_sent_than_was_announced():
    _, head, body = answer([b"123GET / HTTP/1.1\r\n\r\n"], [("Content-Length", "3")])

    assert "Content-Length: 3" in head
    assert body == b"123"


@pytest.mark.parametrize("parts", [[b"12"], iter([PIECE, b"12"])])
def test_less_than_was_announced_is_a_failure(parts):
    with pytest.raises(InvalidAnswer):
        answer(parts, [("Content-Length", str(PIECE_BYTES + 3))])


@pytest.mark.parametrize(
    "header", [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\rb"), ("X\r\nY", "a"), ("X", "\0")]
)
def test_a_header_cannot_hold_another(header):
    with pytest.raises(InvalidAnswer):
        answer([b""], [header])


def test_headers_of_the_connection_are_not_the_applications():
    given = [("Connection", "keep-alive"), ("transfer-encoding", "gzip"), ("Date", "today")]

    _, head, _ = answer([b""], given, may_keep=False)

    assert [each for each in head if each.startswith("Connection")] == ["Connection: close"]
    assert not any("gzip" in each or "today" in each for each in head)
    assert sum(each.startswith("Date: ") for each in head) == 1


def test_an_application_that_begins_no_answer_fails():
    reader = Reader({}, Limits())
    reader.feed(HEAD)
    made = Answer(arrived(reader), lambda: True)

    with pytest.raises(InvalidAnswer):
        made.begin(lambda _environ, _start_response: [b""])


def test_the_application_is_closed_as_soon_as_all_is_made():
    closed = []

    class Parts(list[bytes]):
        def close(self):
            closed.append(True)
            raise RuntimeError

    made, _, _ = answer(Parts([b"a"]))

    assert closed == [True]
    made.close()
    assert closed == [True]


def test_a_large_body_is_made_at_once_and_not_copied():
    large = bytes(PIECE_BYTES * 3)
    reader = Reader({}, Limits())
    reader.feed(OLD)

    def application(_environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(large)))])
        return [large]

    made = Answer(arrived(reader), lambda: True)

    assert made.begin(application)[1] is large
    assert made.is_over


def test_what_the_application_writes_comes_first():
    reader = Reader({}, Limits())
    reader.feed(OLD)

    def application(_environ, start_response):
        start_response("200 OK", [])(b"first ")
        return [b"second"]

    made = Answer(arrived(reader), lambda: True)

    assert made.begin(application)[0].endswith(b"\r\n\r\nfirst second")


def test_a_refusal_of_a_question_for_the_head_has_no_body():
    received = refuse("400 Bad Request", [], b"body", "HEAD")

    assert b"Content-Length: 4\r\n" in received
    assert received.endswith(b"\r\n\r\n")


def test_a_refusal_ends_the_connection():
    assert refuse("400 Bad Request", [("A", "b")], b"body", "GET").startswith(
        b"HTTP/1.1 400 Bad Request\r\nA: b\r\n"
    )
    assert b"Connection: close\r\n" in refuse("400 Bad Request", [], b"", "GET")
