"""Where a request ends, in whatever pieces it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.framing import MAX_CHUNKED_BYTES, MAX_HEAD_BYTES, Arrival
from chassis.http.web import MAX_BODY_BYTES

POST = b"POST / HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(body):
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def with_chunks(chunks, trailer=b""):
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return CHUNKED + b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


def completed_at(request, cuts):
    """Feed a request in pieces and return after how many bytes it was complete."""
    arrival = Arrival()
    for begin, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
        arrival.data += request[begin:end]
        if arrival.is_complete():
            return end
    return None


bodies = st.binary(max_size=300)
chunks = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.just(b"0\r\n"), st.just(b"\r\n0\r\n\r\n"))
)
trailers = st.sampled_from([b"", b"X-Trailer: 1\r\n", b"A: 0\r\nB: 0\r\n"])
requests = st.one_of(bodies.map(with_length), st.builds(with_chunks, chunks, trailers))


@given(requests, st.data())
def test_a_request_is_complete_with_its_last_byte_and_not_before(request, data):
    cuts = data.draw(st.lists(st.integers(0, len(request) - 1), unique=True).map(sorted))

    assert completed_at(request, cuts) == len(request)


@given(requests)
def test_byte_by_byte_it_is_the_same(request):
    assert completed_at(request, list(range(1, len(request)))) == len(request)


@given(requests, requests)
def test_what_comes_behind_a_request_does_not_hide_its_end(first, second):
    assert Arrival(first + second[: len(second) // 2]).is_complete()


@given(st.binary(max_size=2000))
def test_whatever_arrives_is_judged(data):
    arrival = Arrival(data)

    assert arrival.is_complete() in {True, False}
    assert arrival.body_length >= 0
    assert arrival.wants_to_be_asked() in {True, False}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"Content-Length: 12", 12),
        (b"content-length:12", 12),
        (b"CONTENT-LENGTH: \t12 ", 12),
        (b"Content-Length: 0", 0),
        (b"Content-Length: -1", 0),
        (b"Content-Length: 0x12", 0),
        (b"Content-Length: " + b"9" * 5000, 0),
        (b"X-Content-Length: 12", 0),
        (b"Accept: content-length: 12", 0),
    ],
)
def test_the_length_is_that_of_the_head(header, length):
    assert Arrival(POST + header + b"\r\n\r\n").body_length == length


def test_a_length_in_the_body_says_nothing():
    assert Arrival(with_length(b"a\r\nContent-Length: 99\r\n\r\n")).body_length == 25


def test_a_length_is_not_known_before_the_head_ends():
    assert Arrival(POST + b"Content-Length: 12\r\n").body_length == 0


def test_a_large_body_is_complete_with_its_head():
    head = POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)

    arrival = Arrival(head)

    assert arrival.is_complete()
    assert arrival.is_large()


def test_the_largest_body_that_is_allowed_is_gathered():
    arrival = Arrival(POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES)

    assert not arrival.is_complete()
    assert not arrival.is_large()


def test_a_chunk_that_is_too_large_is_large_when_it_has_arrived_not_when_it_is_announced():
    announced = Arrival(CHUNKED + b"fffff\r\n" + b"a" * 10)
    arrived = Arrival(CHUNKED + b"fffff\r\n" + b"a" * (MAX_BODY_BYTES + 1))

    assert (announced.is_complete(), announced.is_large()) == (False, False)
    assert (arrived.is_complete(), arrived.is_large()) == (True, True)


def test_tiny_chunks_without_an_end_are_not_gathered_for_ever():
    arrival = Arrival(CHUNKED + b"1\r\na\r\n" * (MAX_CHUNKED_BYTES // 6 + 1))

    assert arrival.is_complete()
    assert not arrival.is_large()


def test_what_is_no_chunk_is_for_the_parser_to_refuse():
    assert Arrival(CHUNKED + b"zz\r\n").is_complete()
    assert not Arrival(CHUNKED + b"1f").is_complete()


def test_a_head_without_an_end_is_complete_when_it_is_too_large():
    arrival = Arrival(b"a" * MAX_HEAD_BYTES)
    before = (arrival.is_complete(), arrival.has_large_head())

    arrival.data += b"a"

    assert before == (False, False)
    assert (arrival.is_complete(), arrival.has_large_head()) == (True, True)


@pytest.mark.parametrize(
    ("request_text", "wants"),
    [
        (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", True),
        (POST + b"EXPECT:100-Continue \r\nContent-Length: 5\r\n\r\n", True),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nh", False),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n", False),
        (POST + b"Expect: something\r\nContent-Length: 5\r\n\r\n", False),
        (POST + b"Content-Length: 5\r\n\r\n", False),
        (b"", False),
    ],
)
def test_a_client_is_asked_for_the_body_that_it_holds_back(request_text, wants):
    assert Arrival(request_text).wants_to_be_asked() is wants


def test_an_answered_expectation_is_forgotten_and_nothing_else():
    arrival = Arrival(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")

    arrival.forget_expectation()

    assert bytes(arrival.data) == POST + b"Content-Length: 5\r\n\r\n"
    assert not arrival.wants_to_be_asked()
