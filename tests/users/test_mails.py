"""The words of our e-mails: complete, and free of what strangers may choose."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from jinja2 import Environment, FileSystemLoader, UndefinedError, meta

from bootstrap import MAILS
from chassis.clients.mail_templates import MailTemplates

TEMPLATES = sorted(folder.name for folder in MAILS.iterdir() if folder.is_dir())
FILES = {"subject.txt", "text.txt", "html.html"}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_has_a_subject_a_text_and_html(template):
    assert {file.name for file in (MAILS / template).iterdir()} == FILES


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("file", sorted(FILES))
def test_no_template_shows_what_a_stranger_may_have_chosen(template, file):
    environment = Environment(loader=FileSystemLoader(MAILS), autoescape=True)
    source = (MAILS / template / file).read_text(encoding="utf-8")

    shown = meta.find_undeclared_variables(environment.parse(source))

    assert shown <= {"service", "link"}
    assert "| safe" not in source


def test_a_new_user_is_welcomed():
    letter = MailTemplates(MAILS, {"service": "Example & Co"}).render("welcome", {"name": "Ada"})

    assert letter.subject == "Welcome to Example & Co"
    assert "an account at Example & Co was made" in letter.text
    assert "an account at Example &amp; Co was made" in letter.html


@pytest.mark.parametrize("template", TEMPLATES)
def test_html_is_well_formed_and_calls_nothing(template):
    letter = MailTemplates(MAILS, {"service": "Example"}).render(
        template, {"link": "https://example.com/account#token"}
    )
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag not in {"script", "img", "iframe", "object"}
            assert "src" not in dict(attrs)
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Reader().feed(letter.html)

    assert opened == []
    assert not re.search(r"url\(|@import", letter.html)


def test_a_value_that_is_missing_is_an_error_and_no_gap(tmp_path):
    for name in FILES:
        (tmp_path / "note").mkdir(exist_ok=True)
        (tmp_path / "note" / name).write_text("Dear {{ name }}")

    with pytest.raises(UndefinedError):
        MailTemplates(tmp_path, {}).render("note", {})
