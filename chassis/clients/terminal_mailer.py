"""E-mails on the terminal of a developer, who has no provider and wants to follow the links."""

from __future__ import annotations

import os
import re
from pathlib import Path

from chassis.clients.mail_templates import MailTemplates
from chassis.clients.mailer import LoggingMailer, mail_span

# The terminal that this process was started from, wherever its output goes.
TERMINAL = Path("/dev/tty")
# Signs that a terminal could take for a command.
_CONTROLS = re.compile(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_RULE = "-" * 72


class TerminalMailer:
    """Prints each e-mail as text, past the logs, which must hold no addresses.

    Where no terminal belongs to the process, e-mails are skipped, as without a provider.

    Args:
        templates: The words of the e-mails.
        span_name: As in `HttpMailer`.
        terminal: The file of the terminal.
    """

    def __init__(
        self, templates: MailTemplates, *, span_name: str, terminal: Path = TERMINAL
    ) -> None:
        self._templates = templates
        self._span_name = span_name
        self._terminal = terminal

    def send(self, template: str, *, to: str, variables: dict[str, str], key: str) -> bool:
        """Print an e-mail; return False without a terminal."""
        with mail_span(self._span_name, template):
            letter = self._templates.render(template, variables)
            text = f"To: {to}\nSubject: {letter.subject}\n\n{letter.text.strip()}"
            if self._print(f"{_RULE}\n{_CONTROLS.sub(' ', text)}\n{_RULE}\n"):
                return True
        return LoggingMailer().send(template, to=to, variables=variables, key=key)

    def close(self) -> None:
        """Nothing was opened."""

    def _print(self, text: str) -> bool:
        """Write to the terminal; tell whether there is one."""
        try:
            terminal = os.open(self._terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return os.isatty(terminal) and os.write(terminal, text.encode(errors="replace")) > 0
        except OSError:  # such as a terminal that was stopped, and takes no more
            return False
        finally:
            os.close(terminal)
