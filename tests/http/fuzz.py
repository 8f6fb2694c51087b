"""Mutated requests to our reader and to h11: whatever ours takes for a request, h11 does, too.

    make fuzz inputs=100000 seed=1

Each input is also cut into pieces at random, which must change nothing. Ours may refuse more.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import h11

from chassis.http.reader import Reader
from chassis.http.request import Limits, Refused

LIMITS = Limits(body=2000)

SEEDS = [
    b"GET /version?a=b%20c HTTP/1.1\r\nHost: test\r\n\r\n",
    b"POST /users HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
    (
        b"POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    ),
    b"PUT /b HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
    b"GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET http://other/e HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    (
        b"POST /f HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    ),
    b"OPTIONS * HTTP/1.1\r\nHost: t\r\nX-A: \xe4\r\nX-A: 2\r\n\r\n",
]
TOKENS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\xff", b":", b";", b",", b"0"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:5,5\r\n", b"-1", b"+5"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"0x5", b"\r\n\r\n"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"transfer_encoding: chunked\r\n", b"HTTP/1.1"),
    *(b"Host: a\r\n", b"Host: a b\r\n", b" folded\r\n", b"0\r\n\r\n", b"ffffffffffffffff1\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1"),
]
# Line ends before a request, and more than one blank in its line, are let pass by
# ours as RFC 9112 says (2.2 and 3); h11 is stricter there.
_EMPTY_LINES = re.compile(rb"\A[\r\n]+")
_BLANKS = re.compile(rb"\A([A-Z]+) +(\S+) +HTTP/")


class Taken(NamedTuple):
    """The parts of a request that matter to other requests on its connection."""

    method: str
    target: str
    body: bytes


def ours(pieces: list[bytes]) -> tuple[list[Taken], bool]:
    """Return the whole requests, and whether there was something else behind them."""
    reader = Reader({}, LIMITS)
    taken: list[Taken] = []
    for piece in pieces:
        reader.feed(piece)
        while reader.arrived:
            item = reader.arrived[0]
            if isinstance(item, Refused):
                return taken, True
            if item.upload is not None and not item.upload.is_whole:
                if item.upload.is_broken:
                    return taken, True
                break
            reader.arrived.popleft()
            environ: dict[str, Any] = item.environ
            body = environ["wsgi.input"].read()
            taken.append(Taken(environ["REQUEST_METHOD"], environ["RAW_URI"], body))
            if not item.keeps:
                return taken, False
            reader.go_on()
    reader.end()
    return taken, bool(reader.arrived)


def judged(data: bytes) -> list[Taken]:
    """Return the whole requests that h11 finds."""
    taken: list[Taken] = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        connection.receive_data(_BLANKS.sub(rb"\1 \2 HTTP/", _EMPTY_LINES.sub(b"", data)))
        try:
            one = _next(connection)
        except h11.RemoteProtocolError:
            break
        if one is None:
            break
        taken.append(one)
        data = connection.trailing_data[0]
    return taken


def _next(connection: h11.Connection) -> Taken | None:
    head, body = None, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Taken(head.method.decode(), head.target.decode("latin-1"), body)
        else:
            return None


def inputs(number: int, seed: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield inputs, whole and in pieces."""
    chance = random.Random(seed)  # noqa: S311 - inputs can be repeated
    for _ in range(number):
        data = b"".join(chance.choices(SEEDS, k=chance.choice([1, 1, 2, 3])))
        for _ in range(chance.choice([0, 1, 1, 2, 4])):
            data = _mutate(chance, data)
        places = sorted(chance.choices(range(len(data) + 1), k=chance.randrange(6)))
        yield data, [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def _mutate(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    if chance.random() < 0.4:
        lines = [each.end() for each in re.finditer(b"\r\n", data)]
        at = chance.choice(lines or [at])
    length = chance.choice([0, 0, 1, 2, chance.randrange(20)])
    new = chance.choice([b"", chance.choice(TOKENS), bytes([chance.randrange(256)])])
    return data[:at] + new + data[at + length :]


def run(number: int, seed: int) -> Counter[str]:
    """Compare; return how often what came out.

    Raises:
        AssertionError: ours took what h11 does not, or something else; or pieces mattered.
    """
    counts: Counter[str] = Counter()
    for data, pieces in inputs(number, seed):
        taken, is_refused = ours([data])
        assert ours(pieces) == (taken, is_refused), ("pieces", pieces)
        theirs = judged(data)
        assert taken == theirs[: len(taken)], ("h11", data, taken, theirs)
        counts["requests"] += len(taken)
        counts["refused"] += is_refused
        counts["stricter"] += len(taken) < len(theirs) and is_refused
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311
    chosen = parser.parse_args()
    found = run(chosen.inputs, chosen.seed)
    sys.stdout.write(f"{chosen.inputs} inputs, seed {chosen.seed}: {dict(found)}\n")
