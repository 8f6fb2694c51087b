"""E-mails that the service writes itself, and hands to a mail server."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.clients.mail_message import Sender, compose
from chassis.clients.mail_templates import MailTemplates
from chassis.clients.mailer import mail_span
from chassis.clients.resilience import CircuitBreaker
from chassis.clients.smtp_client import SmtpClient
from chassis.clients.smtp_connection import Mail
from chassis.clients.smtp_server import SmtpRefusal
from chassis.errors import AppError, Unavailable, Undeliverable


class SmtpMailer:
    """Hands e-mails to a mail server.

    Args:
        client: The way to the server.
        breaker: Stops calls to a server that is away, or takes nothing from us.
        templates: The words of the e-mails.
        sender: The mailbox that they come from.
        span_name: Name of each try's span; `{template}` in it becomes the template's name.
    """

    def __init__(
        self,
        client: SmtpClient,
        breaker: CircuitBreaker,
        *,
        templates: MailTemplates,
        sender: Sender,
        span_name: str = "send_{template}_email",
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._templates = templates
        self._sender = sender
        self._span_name = span_name

    def send(self, template: str, *, to: str, variables: dict[str, str], key: str) -> bool:
        """Hand over an e-mail.

        Raises:
            Unavailable: the server did not take it, and may do so later.
            Undeliverable: it will never take it.
        """
        with mail_span(self._span_name, template):
            letter = self._templates.render(template, variables)
            now = datetime.now(UTC)
            self._deliver(compose(letter, sender=self._sender, to=to, key=key, now=now))
        return True

    def ping(self) -> None:
        """Ask the server for a sign of life; raises Unavailable when there is none."""
        self._client.ping()

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()

    def _deliver(self, mail: Mail) -> None:
        if failure := self._call(mail):
            raise failure

    def _call(self, mail: Mail) -> AppError | None:
        """Return why this e-mail alone is refused: the breaker stays closed for the others."""
        with self._breaker.call():
            try:
                self._client.deliver(mail)
            except SmtpRefusal as refusal:
                if refusal.concerns_all:
                    raise Unavailable(str(refusal)) from refusal
                failure = Undeliverable if refusal.is_final else Unavailable
                return failure(str(refusal))
            except Undeliverable as error:
                return error
            except (OSError, ValueError) as error:  # the latter: no name server knows such a host
                raise Unavailable(f"No answer: {type(error).__name__}") from error
        return None
