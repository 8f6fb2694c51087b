"""A browser, and a service whose e-mails can be read, for the tests that drive /account."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conftest import API_KEY
from tests.support import chromium
from tests.support.chromium import Chromium
from tests.support.ports import HOST
from tests.support.provider import MailProvider
from tests.support.serving import Service, serving
from tests.support.tab import Tab
from tests.support.waiting import DEADLINE_SECONDS, eventually

PASSWORD = "difference-engine-1843"
KEY = {"X-API-Key": API_KEY}


@dataclass(frozen=True)
class People:
    """A service, the people who use it, and their mailboxes."""

    service: Service
    provider: MailProvider

    @property
    def page(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.service.port}/account"

    def register(self, email: str, password: str | None = PASSWORD) -> str:
        """Create a user and return the id."""
        wanted = {"email": email, "name": "Ada"} | ({"password": password} if password else {})
        answer = self.service.client.post("/users", json=wanted)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def log_in(self, email: str, password: str = PASSWORD) -> dict[str, Any]:
        """Return the answer to a log-in."""
        form = {"grant_type": "password", "username": email, "password": password}
        return dict(self.service.client.post("/auth/token", data=form).json())

    def sessions(self, user_id: str) -> list[Any]:
        """Return the log-ins of a user that live."""
        answer = self.service.client.get(f"/users/{user_id}/sessions", headers=KEY)
        return list(answer.json()["items"])

    def link(self, email: str, template: str) -> str:
        """Wait for an e-mail; return the link in the newest one."""
        return str(eventually(lambda: self._links(email, template))[-1])

    def _links(self, email: str, template: str) -> list[str]:
        return [
            mail.document["variables"]["link"]
            for mail in self.provider.taken
            if (mail.to, mail.document["template"]) == (email, template)
        ]


@contextmanager
def people_of(folder, **variables: str) -> Iterator[People]:
    """Start a service whose e-mails can be read."""
    provider = MailProvider()
    try:
        defaults = {
            "DATABASE_URL": f"sqlite:///{folder}/app.db",
            "EMAIL_SERVICE_URL": provider.url,
            "EMAIL_VERIFICATION": "optional",
        }
        with serving(folder, **(defaults | variables)) as service:
            yield People(service, provider)
    finally:
        provider.close()


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A service for all tests of a file: each takes people of its own."""
    with people_of(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A browser; without one the test is skipped."""
    if chromium.PROGRAM is None:
        pytest.skip(chromium.MISSING)
    with Chromium(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def tab(browser):
    """A tab of a telephone; no page in it has anything to complain of."""
    opened = Tab(browser, width=360, height=640)
    yield opened
    complaints = opened.complaints
    opened.close()
    assert complaints == []


class _Prefixed(BaseHTTPRequestHandler):
    """Takes /svc off the path, and says so to the service."""

    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/svc") if self.path.startswith("/svc/") else "/outside"
        headers = {**dict(self.headers.items()), "X-Forwarded-Prefix": "/svc"}
        service = HTTPConnection(HOST, self.server.target, timeout=DEADLINE_SECONDS)
        service.request(self.command, path, body, headers)
        answer = service.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        service.close()

    do_POST = do_GET  # noqa: N815 - the base class's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing to stderr."""


class Proxy(ThreadingHTTPServer):
    """A proxy that has the service at /svc."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__((HOST, 0), _Prefixed)
        self.target = target


@contextmanager
def prefixed(service: Service) -> Iterator[str]:
    """Have a service at /svc; return the address of its page there."""
    proxy = Proxy(service.port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{HOST}:{proxy.server_port}/svc/account"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
