"""An application that does what applications may do, and some that they may not."""

from __future__ import annotations

import os
import threading
import time
from itertools import repeat

LARGE = bytes(4 * 1024 * 1024)
closed = threading.Event()
PIECE = b"a" * 65536


class Endless:
    """A stream that notes when it is closed."""

    def __iter__(self):
        return repeat(PIECE, 2000)

    def close(self):
        closed.set()


def application(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], describe)(environ, start_response)


def describe(environ, start_response):
    body = "\n".join(f"{key}={environ[key]}" for key in sorted(environ)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def ignore(_environ, start_response):
    start_response("401 Unauthorized", [("Content-Length", "2")])
    return [b"no"]


def large(_environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    return [LARGE]


def endless(_environ, start_response):
    start_response("200 OK", [])
    return Endless()


def was_closed(_environ, start_response):
    start_response("200 OK", [])
    return [str(closed.wait(5)).encode()]


def stream(_environ, start_response):
    start_response("200 OK", [])
    return iter([PIECE, PIECE, b"end"])


def short(_environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return [b"1234"]


def short_stream(_environ, start_response):
    start_response("200 OK", [("Content-Length", "1000000")])
    return iter([PIECE, b"end"])


def long(_environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"123GET / HTTP/1.1\r\n\r\n"]


def broken(_environ, _start_response):
    message = "canary"
    raise RuntimeError(message)


def broken_stream(_environ, start_response):
    start_response("200 OK", [])
    return (PIECE[:1000] if number < 200 else 1 / 0 for number in range(201))


def injected(environ, start_response):
    start_response("200 OK", [("X-Given", environ["QUERY_STRING"] + "\r\nX-More: 1")])
    return [b""]


def slow(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [])
    return [b"slow"]


def number(_environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


def empty(_environ, start_response):
    start_response("204 No Content", [])
    return []


ROUTES = {
    f"/{each.__name__}": each
    for each in (
        *(echo, ignore, large, endless, was_closed, stream, short, short_stream, long, broken),
        *(broken_stream, injected, slow, number, empty),
    )
}
