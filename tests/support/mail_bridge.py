"""The e-mail service of compose.yaml: takes {to, template, variables}, sends it by SMTP.

It runs alone in a container, so it needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import smtplib
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SUBJECTS = {"welcome": "Welcome, {name}"}


def compose(document: dict[str, Any], key: str) -> EmailMessage:
    """Write the e-mail that a request asks for."""
    message = EmailMessage()
    message["From"] = "service@example.com"
    message["To"] = document["to"]
    subject = SUBJECTS.get(document["template"], document["template"])
    message["Subject"] = subject.format_map(document["variables"])
    message["X-Idempotency-Key"] = key
    message.set_content(json.dumps(document, indent=2, ensure_ascii=False))
    return message


class Bridge(BaseHTTPRequestHandler):
    """Answers 202 when the catcher took an e-mail, 400 to nonsense, 502 without a catcher."""

    def do_POST(self) -> None:
        """Send an e-mail."""
        try:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = compose(document, self.headers.get("Idempotency-Key", ""))
            with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])) as server:
                server.send_message(message)
        except (KeyError, TypeError, ValueError):
            self._answer(400)
        except (OSError, smtplib.SMTPException):
            self._answer(502)
        else:
            self._answer(202)

    def do_GET(self) -> None:
        """Say that it is there: the service's readiness asks."""
        self._answer(200)

    do_HEAD = do_GET  # noqa: N815 - the library looks for this name

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(os.environ["BRIDGE_PORT"])), Bridge).serve_forever()
