from __future__ import annotations

import logging
import os
import tty
from pathlib import Path

import pytest

from bootstrap import MAILS, make_mailer
from chassis.clients.mail_templates import MailTemplates
from chassis.clients.terminal_mailer import TERMINAL, TerminalMailer
from config import AppConfig

SKIPPED = "E-mail skipped: no EMAIL_SERVICE_URL"


@pytest.fixture
def terminal():
    """A terminal: what is written to it can be read from the first of the pair."""
    reader, writer = os.openpty()
    tty.setraw(writer)
    yield reader, Path(os.ttyname(writer))
    os.close(reader)
    os.close(writer)


def mailer_on(terminal, templates=None):
    templates = templates or MailTemplates(MAILS, {"service": "example"})
    return TerminalMailer(templates, span_name="send_{template}_email", terminal=terminal)


def send(mailer, template="welcome", to="ada@example.com", name="Ada"):
    return mailer.send(template, to=to, variables={"name": name}, key="a-key")


def test_an_email_is_printed_on_the_terminal_and_nowhere_else(terminal, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    reader, path = terminal

    assert send(mailer_on(path)) is True

    printed = os.read(reader, 65_536).decode()
    assert "To: ada@example.com\nSubject: Welcome to example\n" in printed
    assert "an account at example was made" in printed
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_no_value_commands_the_terminal(terminal, tmp_path):
    folder = tmp_path / "note"
    folder.mkdir()
    for name in ("subject.txt", "text.txt", "html.html"):
        (folder / name).write_text("Dear {{ name }}\n")
    reader, path = terminal
    mailer = mailer_on(path, MailTemplates(tmp_path, {}))

    send(mailer, "note", name="\x1b]0;title\x07\x9b31m\rover", to="a@b.example\x1b[2J")

    printed = os.read(reader, 65_536).decode()
    assert [each for each in printed if not each.isprintable() and each != "\n"] == []


@pytest.mark.parametrize("place", ["a file", "nothing"])
def test_without_a_terminal_an_email_is_skipped_as_without_a_provider(tmp_path, caplog, place):
    caplog.set_level(logging.INFO)
    path = tmp_path / "log"
    if place == "a file":
        path.touch()

    assert send(mailer_on(path)) is False

    assert [each.message for each in caplog.records] == [SKIPPED]
    assert not path.exists() or path.read_text() == ""


def test_emails_are_printed_only_where_that_is_asked_for_and_without_a_provider():
    kinds = [
        type(make_mailer(AppConfig(**settings))).__name__
        for settings in (
            {},
            {"email_on_terminal": True},
            {"email_on_terminal": True, "email_service_url": "http://mail.example/send"},
        )
    ]

    assert kinds == ["LoggingMailer", "TerminalMailer", "HttpMailer"]
    assert Path("/dev/tty") == TERMINAL
