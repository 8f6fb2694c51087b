"""The page /account, as far as it can be read without a browser: see test_browser.py."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from urllib.parse import urljoin
from uuid import uuid4

import pytest

from bootstrap import make_links
from config import AppConfig
from userservice.account import words
from userservice.account.page import render_page
from userservice.users.links import Purpose

STATIC = files("userservice.account") / "static"
SCRIPT = (STATIC / "page.js").read_text(encoding="utf-8")
# Ways to turn text into HTML or code, and places where something outlives the page.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacent|createContextualFragment|setHTML|parseHTML|DOMParser|srcdoc"
    r"|document\.write|\beval\b|\bFunction\(|setAttribute\(\"(?:on|href|src|style)|javascript:"
    r"|[sS]torage|\.cookie|indexedDB|caches|serviceWorker|\bimport\b"
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Page(HTMLParser):
    """The elements of a page, each as its name and its attributes."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture
def page(client):
    return Page(client.get("/account").text)


def test_the_page_may_run_its_own_script_and_ask_its_own_service_and_no_more(client):
    response = client.get("/account")

    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_nobody_keeps_the_page_learns_its_address_or_gets_a_cookie(client):
    response = client.get("/account")

    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in response.headers
    assert "ETag" not in response.headers


@pytest.mark.parametrize("mount", ["/", "/svc/"])
def test_the_page_finds_its_files_below_its_mount(client, page, mount):
    addresses = [
        urljoin(f"{mount}account", each.get("src") or each["href"])
        for each in page.all("script", "link")
        if "src" in each or "href" in each
    ]

    found = [client.get(each.replace(mount, "/", 1)) for each in addresses]

    assert sorted(addresses) == [f"{mount}account/page.css", f"{mount}account/page.js"]
    assert {each.status_code for each in found} == {200}
    assert {each.mimetype.partition("/")[2] for each in found} == {"css", "javascript"}


def test_the_script_asks_below_its_mount_alone():
    paths = re.findall(r'send(?:Json)?\("([^"]+)"', SCRIPT)

    assert sorted(set(paths)) == [
        *("auth/email/confirm", "auth/password/forgot", "auth/password/reset"),
        *("auth/revoke", "auth/token", "users/me"),
    ]
    assert SCRIPT.count("fetch(") == 1
    assert "://" not in SCRIPT


def test_a_file_of_the_page_that_a_browser_has_is_not_sent_again(client):
    first = client.get("/account/page.js")

    again = client.get("/account/page.js", headers={"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert first.headers["Cache-Control"] == "public, no-cache"


@pytest.mark.parametrize("name", ["page.html", "..%2fpage.html", "words.py", "%00", "page.js.map"])
def test_only_the_files_of_the_page_are_served(client, name):
    assert client.get(f"/account/{name}").status_code == 404


def test_the_script_has_no_way_to_turn_text_into_html_or_to_store_any():
    assert SINKS.findall(SCRIPT) == []


@pytest.mark.parametrize(
    "code",
    [
        *("a.innerHTML = b", "document.write(a)", "new Function(a)", "localStorage.a = b"),
        *('a.setAttribute("onclick", b)', "a.insertAdjacentHTML(b)", "document.cookie = a"),
    ],
)
def test_such_a_way_would_be_found(code):
    assert SINKS.search(code)


def test_the_script_takes_the_token_away_before_anything_else():
    code = [line for line in SCRIPT.splitlines() if line and not line.startswith("//")]

    assert code[0] == "let token = takeToken();"
    body = SCRIPT.partition("function takeToken() {")[2].partition("\n}")[0]
    assert [line.strip() for line in body.strip().splitlines()] == [
        "const found = location.hash.slice(1);",
        'history.replaceState(null, "", location.pathname + location.search);',
        "return found;",
    ]


def test_the_page_holds_no_script_or_style_that_its_policy_forbids(page):
    scripts = page.all("script")

    assert [each.get("type") for each in scripts] == ["application/json", "module"]
    assert page.all("style") == []
    assert not [name for _, each in page.elements for name in each if name.startswith("on")]
    assert not [each for _, each in page.elements if "style" in each]


def test_no_form_would_put_its_values_into_an_address(page):
    forms = page.all("form")

    assert [each["method"] for each in forms] == ["post"] * 3
    assert all("action" not in each and "hidden" in each for each in forms)


def test_each_field_has_a_label_and_says_to_a_password_manager_what_it_is(page):
    labelled = {each["for"] for each in page.all("label")}

    fields = {each["id"]: each["autocomplete"] for each in page.all("input")}

    assert labelled == set(fields)
    assert fields == {
        "forgot-address": "username",
        "choose-address": "username",
        "choose-password": "new-password",
        "confirm-address": "username",
        "confirm-password": "current-password",
    }


def test_each_purpose_of_a_link_has_its_words_and_its_form():
    forms = dict(re.findall(r'^  \["(\w+)", "(\w+)"\],$', SCRIPT, re.MULTILINE))

    assert set(forms) == {each.value for each in Purpose}
    assert set(words.VIEWS) == {"forgot", *forms}
    assert {frozenset(each) for each in words.VIEWS.values()} == {
        frozenset({"title", "lead", "button", "done", "after"})
    }


@pytest.mark.parametrize("purpose", Purpose)
def test_the_script_reads_purpose_and_expiry_from_a_token(purpose):
    token = make_links(AppConfig()).make(purpose.value, uuid4(), made_at=datetime.now(UTC))
    pattern = re.search(r"^const TOKEN = /(.+)/;$", SCRIPT, re.MULTILINE)
    assert pattern is not None

    found = re.fullmatch(pattern[1], token)

    assert found is not None
    assert found.groups() == (purpose.value, token.split(".")[2])


def test_the_script_finds_each_message_that_it_uses_and_leaves_none_unused():
    lists = re.findall(r"const \{ ([\w, ]+) \} = words\.messages;", SCRIPT)
    used = {name for each in lists for name in each.split(", ")}
    used |= set(re.findall(r"words\.messages\.(\w+)", SCRIPT))

    assert used == set(words.MESSAGES)


def test_words_cannot_end_the_element_that_holds_them(monkeypatch):
    hostile = "</script><script>alert(1)</script>\"'&"
    monkeypatch.setitem(words.LABELS, "heading", hostile)

    text = render_page(hostile)

    assert len(Page(text).all("script")) == 2
    held = re.search(r'id="words">(.*)</script>\n', text)
    assert held is not None
    assert json.loads(held[1])["labels"]["heading"] == hostile
