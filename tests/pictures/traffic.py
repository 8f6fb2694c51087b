"""A small load on a service: calls at fixed rates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from secrets import token_hex
from typing import Any, Self

import httpx2

from tests.conftest import API_KEY
from tests.support.waiting import DEADLINE_SECONDS

KEY = {"X-API-Key": API_KEY}
PASSWORD = "a sentence that nobody guesses"


class Traffic:
    """Clients that call a service, each kind of call from a thread of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._users: list[dict[str, Any]] = []
        self._stopping = threading.Event()
        calls = {self._register: 4, self._read: 25, self._list: 2, self._log_in: 1, self._err: 1}
        self._threads = [threading.Thread(target=self._run, args=each) for each in calls.items()]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, call: Callable[[httpx2.Client], object], rate: int) -> None:
        """Call at a rate a second; calls that fall due while one lasts are left out."""
        with httpx2.Client(base_url=self._url, headers=KEY, timeout=DEADLINE_SECONDS) as client:
            due = time.monotonic()
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                call(client)
                due = max(due + 1 / rate, time.monotonic())

    def _register(self, client: httpx2.Client) -> None:
        wanted = {"email": f"{token_hex(8)}@example.com", "name": "Ada"}
        if len(self._users) % 20 == 0:  # passwords take time on purpose
            wanted |= {"password": PASSWORD}
        self._users.append(client.post("/users", json=wanted).json())

    def _read(self, client: httpx2.Client) -> None:
        if self._users:
            client.get(f"/users/{self._users[-1]['id']}")

    def _list(self, client: httpx2.Client) -> None:
        client.get("/users", params={"page_size": 50})

    def _log_in(self, client: httpx2.Client) -> None:
        if self._users:
            name = self._users[0]["email"]
            form = {"grant_type": "password", "username": name, "password": PASSWORD}
            client.post("/auth/token", data=form)

    def _err(self, client: httpx2.Client) -> None:
        client.post("/users", json={"email": "nobody", "name": "Nobody"})
