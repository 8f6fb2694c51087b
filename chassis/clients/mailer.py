"""E-mails: the interface, and the way through another service over HTTP."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import NoReturn, Protocol

from opentelemetry.trace import Span

from chassis.clients.http_answer import Answer
from chassis.clients.http_client import HttpClient
from chassis.clients.resilience import AskedToWait, CircuitBreaker
from chassis.errors import Unavailable
from chassis.telemetry.tracing import span

logger = logging.getLogger(__name__)

# Answers that concern all e-mails, and may say for how long.
OF_ALL = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Mailer(Protocol):
    """Sends e-mails."""

    def send(self, template: str, *, to: str, variables: dict[str, str], key: str) -> bool:
        """Send an e-mail.

        Args:
            template: The name of the text.
            to: The recipient's address.
            variables: The values that the template fills in.
            key: The same for every try, so that the provider sends it once.

        Returns:
            False when there is no provider, and so nothing to try again.

        Raises:
            Unavailable: the provider did not accept it.
            Undeliverable: it will never accept it.
        """

    def close(self) -> None:
        """Close the connections that were opened."""


def mail_span(name: str, template: str) -> AbstractContextManager[Span]:
    """Give a try to send an e-mail its span.

    Args:
        name: Of the span; `{template}` in it becomes the template's name.
        template: The name of the text.
    """
    attributes = {
        "function.name": "send",
        "function.module": __name__,
        "external_service.name": "email",
        "external_service.operation": "send_email",
        "email.type": template,
    }
    return span(name.format(template=template), attributes)


class LoggingMailer:
    """Replaces a provider where none is configured: logs e-mails instead of sending them."""

    def send(self, template: str, *, to: str, variables: dict[str, str], key: str) -> bool:  # noqa: ARG002
        """Log that an e-mail would be sent, without its recipient."""
        logger.info(
            "E-mail skipped: no EMAIL_SERVICE_URL", extra={"template": template, "key": key}
        )
        return False

    def close(self) -> None:
        """Nothing was opened."""


class HttpMailer:
    """Posts e-mails to a provider; any 2xx means that the provider accepted the e-mail.

    Args:
        url: The provider's address.
        http: The client that posts.
        breaker: Stops calls to a provider that is away.
        token: A secret that the provider knows us by (RFC 6750); empty: none.
        span_name: Name of each try's span; `{template}` in it becomes the template's name.
    """

    def __init__(
        self,
        url: str,
        http: HttpClient,
        breaker: CircuitBreaker,
        *,
        token: str = "",
        span_name: str = "send_{template}_email",
    ) -> None:
        self._url = url
        self._credentials = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = http
        self._breaker = breaker
        self._span_name = span_name

    def send(self, template: str, *, to: str, variables: dict[str, str], key: str) -> bool:
        """Post an e-mail; raises Unavailable when the provider did not accept it."""
        document: dict[str, object] = {"to": to, "template": template, "variables": variables}
        with mail_span(self._span_name, template):
            return self._post(document, key)

    def close(self) -> None:
        """Close the connections to the provider."""
        self._http.close()

    def _post(self, document: dict[str, object], key: str) -> bool:
        fields = {"Idempotency-Key": key, **self._credentials}
        with self._breaker.call():
            answer = self._http.post(self._url, document, fields)
            if answer.status in OF_ALL or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._put_off(answer)
        # A refusal concerns this e-mail alone, so the breaker stays closed for the others.
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - any success
            raise Unavailable(f"The e-mail service answered {answer.status}")
        return True

    def _put_off(self, answer: Answer) -> NoReturn:
        """Fail, and leave the provider alone for as long as it asks."""
        reason = f"The e-mail service answered {answer.status}"
        if answer.status in OF_ALL and answer.retry_after:
            self._breaker.pause(answer.retry_after)
            raise AskedToWait(reason, retry_after=answer.retry_after)
        raise Unavailable(reason)
