"""Requests to the application in this process, without a server: for counting and profiling."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from io import BytesIO, StringIO
from typing import Any
from uuid import uuid4

from app import create_app
from config import AppConfig
from observability import setup_logging

WARM_UP = 50
ENVIRON = {
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8080",
    "REMOTE_ADDR": "127.0.0.1",
    "SCRIPT_NAME": "",
    "QUERY_STRING": "",
    "HTTP_HOST": "127.0.0.1:8080",
    "wsgi.input_terminated": True,  # the server has gathered the body
}


class Caller:
    """Calls the application as it is set up in production."""

    def __init__(self) -> None:
        config = AppConfig.from_env()
        setup_logging(config, StringIO())
        self._app = create_app(config)
        self._key = os.environ["API_KEY"]
        self._batch = uuid4().hex

    def post(self, number: int) -> str:
        """Register a user; return where it is."""
        body = f'{{"email":"{self._batch}{number:08}@example.com","name":"Ada Lovelace"}}'.encode()
        headers = self._call("POST", "/users", body)
        return headers["Location"]

    def get(self, path: str) -> None:
        """Read something."""
        self._call("GET", path, b"")

    def _call(self, method: str, path: str, body: bytes) -> dict[str, str]:
        environ: dict[str, Any] = ENVIRON | {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "HTTP_X_API_KEY": self._key,
            "wsgi.input": BytesIO(body),
        }
        if body:
            environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
        answers: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_more: Any) -> Any:
            answers.append((status, headers))

        result: Iterable[bytes] = self._app(environ, start_response)
        content = b"".join(result)
        if hasattr(result, "close"):
            result.close()
        status, headers = answers[0]
        if not status.startswith("20"):
            raise RuntimeError(f"{method} {path}: {status} {json.loads(content)}")
        return dict(headers)


def main() -> None:
    """Register users and read one as often, after warming up; mark where each begins and ends."""
    counted = int(sys.argv[1])
    caller = Caller()
    path = [caller.post(number) for number in range(WARM_UP)][-1]
    os.getloadavg()
    for number in range(WARM_UP, WARM_UP + counted):
        caller.post(number)
    os.getloadavg()
    for _ in range(WARM_UP):
        caller.get(path)
    os.getloadavg()
    for _ in range(counted):
        caller.get(path)
    os.getloadavg()
    os._exit(0)  # what threads and pools do at the end is not the requests'


if __name__ == "__main__":
    main()
