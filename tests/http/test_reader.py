"""Bytes become the same requests in any pieces, and bytes that are no request are refused."""

from __future__ import annotations

import tracemalloc

import pytest
from httptools import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from chassis.http import reader as module
from chassis.http.reader import SLICE_BYTES, Reader
from chassis.http.request import Limits, Refused, Request

LIMITS = Limits()
GET = b"GET /version HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST /users HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces):
    """Return all that a reader makes of the pieces, reading on where it stops to."""
    reader = Reader({}, LIMITS)
    found = []
    for piece in pieces:
        reader.feed(piece)
        while reader.arrived:
            found.append(reader.arrived.popleft())
            reader.go_on()
    return found, reader


def first(data):
    found, _ = read(data)
    return found[0] if found else None


def body_of(request):
    return request.environ["wsgi.input"].read()


def with_length(body):
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def with_chunks(chunks, trailer=b""):
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return CHUNKED + b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


def cut(request, places):
    return [request[a:b] for a, b in zip([0, *places], [*places, len(request)], strict=True)]


bodies = st.binary(max_size=300)
chunks = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.just(b"0\r\n"), st.just(b"\r\n0\r\n\r\n"))
)
trailers = st.sampled_from([b"", b"X-Trailer: 1\r\n", b"Host: evil\r\nX-API-Key: 9\r\n"])
requests = st.one_of(bodies.map(with_length), st.builds(with_chunks, chunks, trailers))


@given(requests, st.data())
def test_a_request_has_arrived_with_its_last_byte_and_not_before(request, data):
    places = data.draw(st.lists(st.integers(0, len(request) - 1), unique=True).map(sorted))
    pieces = cut(request, places)

    before, _ = read(*pieces[:-1], pieces[-1][:-1])
    after, reader = read(*pieces)

    assert before == []
    assert [type(each) for each in after] == [Request]
    assert not reader.has_begun


@given(requests)
def test_byte_by_byte_it_is_the_same(request):
    whole, slow = first(request), read(*(bytes([each]) for each in request))[0][0]

    assert body_of(whole) == body_of(slow)
    assert {**whole.environ, "wsgi.input": 0} == {**slow.environ, "wsgi.input": 0}


@given(st.lists(requests, min_size=1, max_size=5), st.integers(1, 5000))
def test_a_pipeline_is_read_in_order(several, size):
    together = b"".join(several)
    pieces = [together[at : at + size] for at in range(0, len(together), size)]

    assert list(map(body_of, read(*pieces)[0])) == [body_of(first(each)) for each in several]


@given(st.binary(max_size=2000))
def test_whatever_arrives_nothing_is_raised(data):
    found, reader = read(data)
    reader.end()

    assert all(isinstance(each, Request | Refused) for each in found)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a:99999999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b'{"password": "p"}\r\n\r\n', 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (POST + b"Content-Length: 5, 5\r\n\r\n", 400),
        (POST + b"Content-Length: +5\r\n\r\n", 400),
        (POST + b"Content-Length: 0x5\r\n\r\n", 400),
        (POST + b"Content-Length: -5\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Expect: something\r\n\r\n", 417),
        (CHUNKED + b"zz\r\n", 400),
        (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5\r\nhelloXX\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_of_ours_is_refused(request_text, status):
    found = first(request_text)

    assert isinstance(found, Refused), found
    assert found.status == status or (found.status, status) == (501, 400)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /" + b"a" * 4094 + b" HTTP/1.1\r\n", 414),
        (b"GET /" + b"a" * 9000, 414),
        (GET[:-2] + b"A: " + b"a" * 8190 + b"\r\nB: b\r\n\r\n", 431),
        (GET[:-2] + b"A: " + b"a" * 9000, 431),
        (GET[:-2] + b"A: b\r\n" * 101, 431),
        (GET[:-2] + (b"A: " + b"a" * 8000 + b"\r\n") * 10, 431),
        (CHUNKED + b"0" * 14000, 400),
        (CHUNKED + b"5;" + b"a" * 14000, 400),
        (CHUNKED + b"0\r\n" + b"A: b\r\n" * 3000, 400),
        (CHUNKED + b"1\r\na\r\n" * 30000, 413),
    ],
)
def test_what_has_no_end_in_sight_is_refused_while_it_arrives(request_text, status):
    found, _ = read(*(request_text[at : at + 1000] for at in range(0, len(request_text), 1000)))

    assert [(each.status) for each in found] == [status]


@pytest.mark.parametrize("size", [1000, SLICE_BYTES, 65536, 200_000])
@pytest.mark.parametrize(("excess", "kind"), [(0, Request), (1, Refused)])
def test_the_size_of_a_head_is_judged_however_it_arrives(size, excess, kind):
    wide = [b"H" * 500 + b": " + b"v" * 1500] * 32
    rest = LIMITS.head - len("Host" + "test") - 32 * 2000
    fields = [*wide, b"L: " + b"l" * (rest - len("L") + excess)]
    head = GET[:-2] + b"\r\n".join(fields) + b"\r\n\r\n"

    found, _ = read(*(head[at : at + size] for at in range(0, len(head), size)))

    assert [type(each) for each in found] == [kind]


@pytest.mark.parametrize("size", [1, 7, 1000, SLICE_BYTES, 65536])
@pytest.mark.parametrize(
    "request_text",
    [
        GET[:-2] + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 600) for n in range(90)) + b"\r\n",
        GET[:-2] + b"A: " + b" " * 8000 + b"\r\n\r\n",
        CHUNKED + b"1\r\na\r\n" * 3000 + b"0\r\n" + b"A: b\r\n" * 100 + b"\r\n",
        CHUNKED + b"0" * 4000,
        POST + b"Content-Length: 60000\r\n\r\n" + b"\n" * 60000,
        GET * 300,
    ],
    ids=["head", "blanks", "chunks", "size", "lines", "pipeline"],
)
def test_the_work_is_proportional_to_what_has_arrived(monkeypatch, request_text, size):
    fed = []

    class Counting:
        def __init__(self, protocol):
            self._parser = PARSER(protocol)

        def __getattr__(self, name):
            return getattr(self._parser, name)

        def feed_data(self, data):
            fed.append(len(data))
            self._parser.feed_data(data)

    monkeypatch.setattr(module, "HttpRequestParser", Counting)
    pieces = [request_text[at : at + size] for at in range(0, len(request_text), size)]

    _, reader = read(*pieces)

    assert sum(fed) + len(reader._line) == len(request_text)  # noqa: SLF001 - what is held back
    assert len(fed) <= 2 * (len(pieces) + len(request_text) // SLICE_BYTES + 1)


PARSER = HttpRequestParser


def test_a_pipeline_does_not_become_a_heap():
    reader = Reader({}, LIMITS)

    reader.feed(GET * 1500)

    assert 0 < len(reader.arrived) <= SLICE_BYTES // len(GET) + 1


def test_the_environ_is_what_wsgi_wants():
    head = b"POST /a%20b/c?d=e%20f#g HTTP/1.1\r\nhost: test:80\r\nCONTENT-TYPE: text/plain \r\n"
    found = first(head + b"X-Two: 1\r\nx-two: 2\t\r\nX_Two: 3\r\nContent-Length: 2\r\n\r\nhi")

    environ = {**found.environ, "wsgi.input": body_of(found)}
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "RAW_URI": "/a%20b/c?d=e%20f#g",
        "PATH_INFO": "/a b/c",
        "QUERY_STRING": "d=e%20f",
        "HTTP_HOST": "test:80",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "2",
        "HTTP_X_TWO": "1,2",
        "wsgi.input": b"hi",
    }


def test_the_length_of_a_chunked_body_is_known_when_it_has_arrived():
    found = first(with_chunks([b"ab", b"c"]))

    assert found.environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_TRANSFER_ENCODING" not in found.environ


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [(b"http://other:81/x?y", "other:81", "/x"), (b"HTTP://other", "other", "/")],
)
def test_the_host_of_an_absolute_target_counts(target, host, path):
    found = first(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target)

    assert (found.environ["HTTP_HOST"], found.environ["PATH_INFO"]) == (host, path)


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close, x", False),
        (b"1.1", b"x,\tCLOSE", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", b"", False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_the_client_says_whether_it_goes_on(version, connection, keeps):
    field = b"Connection: %b\r\n" % connection if connection else b""

    assert first(b"GET / HTTP/%b\r\nHost: a\r\n%b\r\n" % (version, field)).keeps is keeps


def test_an_old_client_may_name_the_host_in_the_target_alone():
    found = first(b"GET http://other:81/x HTTP/1.0\r\n\r\n")

    assert (found.environ["HTTP_HOST"], found.environ["PATH_INFO"]) == ("other:81", "/x")


def test_an_old_client_needs_no_host_and_is_asked_nothing():
    found = first(b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi")

    assert found.upload is None
    assert body_of(found) == b"hi"


@pytest.mark.parametrize("framing", [with_length(b"body"), with_chunks([b"bo", b"dy"])])
def test_an_offer_to_upgrade_is_ignored_and_the_body_stays_a_body(framing):
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
    request = framing.replace(b"\r\n", b"\r\n" + offer, 1)

    found, _ = read(request + GET)
    slowly, _ = read(*(bytes([each]) for each in request + GET))

    assert [body_of(each) for each in found] == [b"body", b""]
    assert [body_of(each) for each in slowly] == [b"body", b""]
    assert found[1].environ["PATH_INFO"] == "/version"


def test_a_large_body_is_there_from_its_head_on():
    found, reader = read(POST + b"Content-Length: %d\r\n\r\n" % (LIMITS.body + 1))
    reader.feed(b"a" * LIMITS.body)
    unread = found[0].is_unread
    reader.feed(b"a" + GET)

    assert (unread, found[0].is_unread) == (True, False)
    assert len(body_of(found[0])) == LIMITS.body + 1
    assert reader.arrived[0].environ["PATH_INFO"] == "/version"


def test_the_largest_body_that_is_gathered_is_no_upload():
    assert first(with_length(b"a" * LIMITS.body)).upload is None


def test_a_chunked_body_is_large_when_it_has_arrived_not_when_it_is_announced():
    announced, _ = read(CHUNKED + b"fffff\r\n" + b"a" * 10)
    arrived, _ = read(CHUNKED + b"fffff\r\n" + b"a" * (LIMITS.body + 1))

    assert announced == []
    assert arrived[0].is_unread


def test_a_chunked_body_is_large_when_it_has_arrived_also_where_the_client_asked_to_send_it():
    asked = CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    found, reader = read(asked + b"fffff\r\n" + b"a" * LIMITS.body)
    is_small = found[0].upload.is_small
    reader.feed(b"a")

    assert (is_small, found[0].upload.is_small) == (True, False)


@pytest.mark.parametrize("field", [b"", b"Expect: 100-continue\r\n"])
def test_a_body_of_tiny_pieces_takes_no_more_memory_than_its_bytes(field):
    reader = Reader({}, LIMITS)
    reader.feed(CHUNKED[:-2] + field + b"\r\n")
    tracemalloc.start()
    for _ in range(15_000):
        reader.feed(b"2\r\nab\r\n")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < 2 * 15_000 * len(b"ab")


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (b"HEAD / HTTP/1.1\r\n\r\n", "HEAD"),
        (POST + b"Content-Length: x\r\n\r\n", "POST"),
        (GET + b"nonsense\r\n\r\n", "_OTHER"),
        (GET + b"a" * 9000, "_OTHER"),
        (GET + b"DELETE / HTTP/1.1\r\n\r\n", "DELETE"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "_OTHER"),
        (
            CHUNKED.replace(b"POST", b"PUT")[:-2]
            + b"Connection: Upgrade\r\nUpgrade: a\r\n\r\nnone\r\n",
            "PUT",
        ),
    ],
)
def test_a_refusal_knows_the_method_of_its_own_request(data, method):
    assert read(data)[0][-1].method == method


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (b"PUT / HTTP/1.1\r\nHost: a\r\nX: 1", "PUT"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi", "PUT"),
        (b"PUT /", "_OTHER"),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nPUT /", "_OTHER"),
    ],
)
def test_the_method_is_known_from_the_line_of_the_request_on(data, method):
    assert read(data)[1].method == method


def test_behind_a_refusal_nothing_is_read():
    found, _ = read(GET + b"nonsense\r\n\r\n" + GET, GET)

    assert [type(each) for each in found] == [Request, Refused]


def test_made_up_names_of_headers_fill_no_memory():
    from chassis.http import head  # noqa: PLC0415 - beside what looks at it

    for number in range(1000):
        first(GET[:-2] + b"X-Made-Up-%d: 1\r\n\r\n" % number)

    assert len(head._keys) <= 256  # noqa: SLF001 - its bound is what matters
