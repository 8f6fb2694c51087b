"""Calls to other services over HTTP, through one long-lived client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from chassis.errors import Unavailable
from chassis.once import once_property
from chassis.telemetry.instrumentation import client_spans, trace_http
from chassis.telemetry.propagation import outgoing_headers

if TYPE_CHECKING:
    import httpx2


class HttpClient:
    """A connection pool for outgoing requests, opened on first use."""

    def __init__(self, *, timeout: timedelta) -> None:
        self._timeout_seconds = timeout.total_seconds()

    @once_property
    def client(self) -> httpx2.Client:
        """The client; making one costs milliseconds, so a process makes only one."""
        import httpx2  # noqa: PLC0415 - not every process calls out

        client = httpx2.Client(timeout=self._timeout_seconds, follow_redirects=False)
        trace_http(client)
        return client

    def post(self, url: str, document: Mapping[str, object], headers: Mapping[str, str]) -> int:
        """Post a JSON document, in the current trace; return the status of the answer.

        Raises:
            Unavailable: there was no answer in time.
        """
        import httpx2  # noqa: PLC0415 - see `client`

        try:
            with client_spans():
                sent = {**headers, **outgoing_headers()}
                return self.client.post(url, json=document, headers=sent).status_code
        except httpx2.HTTPError as error:
            raise Unavailable(f"No answer: {type(error).__name__}") from error

    def ping(self, url: str) -> None:
        """Ask a service for any sign of life.

        Raises:
            Unavailable: there was no answer in time, or a server error.
        """
        import httpx2  # noqa: PLC0415 - see `client`

        try:
            status = self.client.get(url).status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise Unavailable from error  # the latter two: the host's name is malformed
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable

    def close(self) -> None:
        """Close the client if it was opened."""
        if "client" in self.__dict__:
            self.client.close()
