"""The transport of OTLP over HTTP, with the limits of every other outgoing call.

The exporters' own one reads `netrc` and half a dozen variables by itself, begins its time limit
anew with each byte that arrives, and keeps all of an answer in memory.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus

from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport

from chassis.clients.http_answer import Answer
from chassis.clients.http_client import HttpClient


def trust(
    certificate: str = "", client_certificate: str = "", client_key: str = ""
) -> ssl.SSLContext:
    """Make the context of TLS from files in PEM; without a `certificate`, trust the system's.

    Raises:
        OSError: a file cannot be read, or holds something else.
    """
    context = ssl.create_default_context(cafile=certificate or None)
    if client_certificate:
        context.load_cert_chain(client_certificate, client_key or None)
    return context


@dataclass(frozen=True, slots=True)
class OtlpResult(BaseHTTPResult):
    """The answer of a collector; its body is not kept."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return nothing."""
        return b""

    def headers(self) -> Mapping[str, str]:
        """Return Retry-After, if it was there."""
        return self.fields


class OtlpTransport(BaseHTTPTransport):
    """Posts to a collector, each call within its time limit.

    A collector that asked to be left alone is not called until its time is over: calls are
    answered as it answered the last one.

    Args:
        client: Calls; closed with this.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._busy_until = 0.0
        self._busy_status = HTTPStatus.SERVICE_UNAVAILABLE.value

    def request(
        self,
        method: str,  # noqa: ARG002 - always POST
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> OtlpResult:
        """Post `data`; a failure is part of the result."""
        wait = self._busy_until - time.monotonic()
        if wait > 0:
            return _answered(self._busy_status, timedelta(seconds=wait))
        span = timedelta(seconds=timeout or 0)
        try:
            answer = self._client.deliver(url, data or b"", headers or {}, span)
        except (OSError, ValueError) as error:
            return OtlpResult(error=error)
        return self._read(answer)

    def is_connection_error(self, exception: Exception | None) -> bool:
        """Tell whether it may help to try again."""
        return isinstance(exception, OSError)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._client.close()

    def _read(self, answer: Answer) -> OtlpResult:
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            # The exporters would take it for a success.
            return OtlpResult(error=ValueError(f"redirected with {answer.status}"))
        if answer.retry_after is not None:
            self._busy_until = time.monotonic() + answer.retry_after.total_seconds()
            self._busy_status = answer.status
        return _answered(answer.status, answer.retry_after)


def _answered(status: int, retry_after: timedelta | None) -> OtlpResult:
    fields = {} if retry_after is None else {"retry-after": str(retry_after.total_seconds())}
    return OtlpResult(status_code=status, reason=f"status {status}", fields=fields)
