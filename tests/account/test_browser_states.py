"""The page /account in a real browser, when something is wrong: `make browser`."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

import pytest

from bootstrap import make_links
from config import AppConfig
from tests.account.conftest import people_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser

NEW = "analytical-engine-1837"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "%3Csvg%2Fonload%3Dalert(1)%3E",
    "reset.<script>alert(1)</script>.9999999999.code",
    "reset.a.9999999999.<img/src=x/onerror=alert(1)>",
    "javascript:alert(1)",
    "__proto__.a.9999999999.code",
    "constructor.a.9999999999.code",
    "forgot.a.9999999999.code",
    "verify.a.NaN.code",
    "change.a.-1.code",
    "reset.a.9999999999.code.more",
    "%",
    "#",
    "\u202e\u0000\ud7ff",
    "title",
    "a" * 20_000,
)
VIEWS = ("", "reset", "invite", "printed", "verify", "change")

numbers = count(1)


@pytest.fixture
def email(people):
    address = f"grace{next(numbers)}@example.com"
    people.register(address)
    return address


@pytest.fixture
def link(people, email):
    """A link to a new password for that user."""
    people.service.client.post("/auth/password/forgot", json={"email": email})
    return people.link(email, "reset_password")


def token_of(purpose, made_at=None):
    """Return a token that looks as if it held."""
    now = datetime.now(UTC)
    return make_links(AppConfig()).make(purpose, uuid4(), made_at=made_at or now)


def posts(tab):
    """Return the paths of the requests that change something."""
    return [each.path for each in tab.asked if each.method == "POST"]


def submit(tab, form, **values):
    """Fill in a form and press Enter in its last field."""
    for name, value in values.items():
        tab.fill(f"#{form}-{name}", value)
    tab.press("Enter")


def alerted(tab, words):
    """Wait for an alert with these words, and return it."""
    return eventually(lambda: words in tab.text("#alert") and tab.text("#alert"))


def test_an_expired_link_says_so_at_once_and_offers_another(people, tab):
    long_ago = datetime.now(UTC) - timedelta(days=1)

    tab.open(f"{people.page}#{token_of('reset', long_ago)}")

    assert "has expired" in alerted(tab, "You can ask for a new one here.")
    assert tab.text("h1") == "Forgot your password?"
    assert posts(tab) == []


def test_an_expired_link_to_confirm_an_address_says_where_to_ask_again(people, tab):
    long_ago = datetime.now(UTC) - timedelta(days=30)

    tab.open(f"{people.page}#{token_of('change', long_ago)}")

    alerted(tab, "Ask for a new e-mail where you use your account.")
    assert tab.evaluate("[...document.forms].every((form) => form.hidden)")


def test_the_clock_of_the_service_decides_whether_a_link_has_expired(people, tab):
    tab.call("Page.addScriptToEvaluateOnNewDocument", source="Date.now = () => 9e15")

    tab.open(f"{people.page}#{token_of('reset')}")

    assert tab.text("h1") == "Choose a new password"


def test_a_used_link_says_so_and_offers_another(tab, link):
    tab.open(link)
    submit(tab, "choose", password=NEW)
    eventually(lambda: tab.text("h1") == "Your password is set")
    tab.open("about:blank")

    tab.open(link)
    submit(tab, "choose", password=f"{NEW}-again")

    alerted(tab, "it was used before")
    assert tab.evaluate("document.activeElement.id") == "forgot-address"


def test_a_password_that_is_easy_to_guess_is_refused_for_the_reason_of_the_service(tab, link):
    tab.open(link)
    submit(tab, "choose", password="password")
    reason = eventually(lambda: tab.text("#alert"))
    field = tab.evaluate(
        "(({id, ariaInvalid, value}) => [id, ariaInvalid, value])(document.activeElement)"
    )

    submit(tab, "choose", password=NEW)
    eventually(lambda: tab.text("h1") == "Your password is set")

    assert "guess" in reason
    assert field == ["choose-password", "true", "password"]
    assert tab.text("#alert") == ""
    assert tab.evaluate("document.querySelector('[aria-invalid]')") is None


def test_a_form_that_is_sent_twice_is_sent_once(tab, link):
    tab.open(link)
    tab.fill("#choose-password", NEW)

    tab.evaluate("for (let i = 0; i < 5; i++) document.querySelector('#choose').requestSubmit()")
    tab.press("Enter")
    eventually(lambda: tab.text("h1") == "Your password is set")

    assert posts(tab) == ["/auth/password/reset"]


@pytest.mark.parametrize("fragment", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_fragment_is_taken_away_and_appears_nowhere(people, tab, fragment):
    tab.open(people.page)
    elements = tab.evaluate("document.querySelectorAll('*').length")

    tab.open("about:blank")
    tab.open(f"{people.page}#{fragment}")

    assert (
        alerted(tab, "not whole")
        == "This link is not whole. Open it from the e-mail again, and copy all of it."
    )
    assert tab.address == people.page
    assert tab.evaluate("document.querySelectorAll('*').length") == elements
    assert posts(tab) == []


@pytest.mark.parametrize("font", [16, 32])
@pytest.mark.parametrize("purpose", VIEWS)
def test_a_telephone_shows_all_of_it_in_each_size_of_text(people, tab, purpose, font):
    tab.call("Page.setFontSizes", fontSizes={"standard": font})
    tab.open(f"{people.page}#{token_of(purpose) if purpose else ''}")

    widths = tab.evaluate(
        "[document.documentElement, ...document.querySelectorAll('main *')]"
        ".map((each) => each.getBoundingClientRect().right)"
    )

    assert tab.evaluate("getComputedStyle(document.documentElement).fontSize") == f"{font}px"
    assert max(widths) <= 360
    assert tab.evaluate("document.documentElement.scrollWidth") == 360


def test_without_a_connection_nothing_is_lost(tab, link):
    tab.open(link)
    offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    tab.call("Network.emulateNetworkConditions", offline=True, **offline)
    submit(tab, "choose", password=NEW)
    alerted(tab, "did not answer")

    online = dict.fromkeys(offline, -1) | {"latency": 0}
    tab.call("Network.emulateNetworkConditions", offline=False, **online)
    tab.click("#choose button:not(.peek)")

    eventually(lambda: tab.text("h1") == "Your password is set")


def test_a_link_that_was_used_by_a_try_without_an_answer_says_so(tab, link):
    tab.open(link)
    tab.call(
        "Fetch.enable", patterns=[{"urlPattern": "*/password/reset", "requestStage": "Response"}]
    )
    submit(tab, "choose", password=NEW)
    paused = eventually(lambda: tab.events("Fetch.requestPaused"))
    tab.call("Fetch.failRequest", requestId=paused[0]["requestId"], errorReason="Failed")
    alerted(tab, "did not answer")
    tab.call("Fetch.disable")

    tab.click("#choose button:not(.peek)")

    alerted(tab, "An earlier try may have got through")


def test_whoever_asks_too_often_is_told_when_to_ask_again(tmp_path, tab):
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_RECOVERY_CLIENT": "1/hour"}
    with people_of(tmp_path, **limits) as people:
        for _ in range(2):
            tab.open(people.page)
            submit(tab, "forgot", address="grace@example.com")
            eventually(lambda: tab.text("h1") != "Forgot your password?" or tab.text("#alert"))

    # The window ends with the hour.
    assert re.search(r"Try again in \d+ (minutes?|seconds?)\.", tab.text("#alert"))


def test_a_service_that_cannot_answer_now_says_when_to_try_again(tmp_path, tab):
    with people_of(tmp_path) as people:
        tab.open(people.page)
        database = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        submit(tab, "forgot", address="grace@example.com")
        alert = alerted(tab, "The service is busy")
        database.close()

        tab.press("Enter")
        eventually(lambda: tab.text("h1") == "Look into your mailbox")

    assert "Try again in " in alert


def test_a_wrong_password_confirms_nothing_and_can_be_corrected(people, tab, email):
    tab.open(f"{people.page}#{token_of('verify')}")

    submit(tab, "confirm", address=email, password="wrong-password")

    alerted(tab, "do not belong together")
    assert tab.evaluate("document.activeElement.id") == "confirm-password"
    assert posts(tab) == ["/auth/token"]


def test_without_javascript_the_page_says_so_and_shows_no_form(people, tab):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)

    tab.open(f"{people.page}#{token_of('reset')}")

    eventually(lambda: "needs JavaScript" in tab.text("main"))
    assert tab.text("form") == ""


def test_another_link_in_the_same_tab_begins_anew(people, tab):
    tab.open(f"{people.page}#{token_of('reset')}")
    tab.evaluate("document.querySelector('#choose-password').value = 'secret'")

    tab.call("Page.navigate", url=f"{people.page}#{token_of('verify')}")
    eventually(lambda: tab.text("h1") == "Confirm your e-mail address")

    assert set(tab.history) == {"about:blank", people.page}
    assert tab.evaluate("document.querySelector('#choose-password').value") == ""


def test_a_password_is_shown_on_demand_until_it_is_sent(people, tab):
    tab.open(f"{people.page}#{token_of('reset')}")
    kind = "document.querySelector('#choose-password').type"

    tab.click("#choose .peek")
    shown = tab.evaluate(kind), tab.text("#choose .peek")
    tab.click("#choose .peek")

    assert shown == ("text", "Hide")
    assert (tab.evaluate(kind), tab.text("#choose .peek")) == ("password", "Show")


def test_the_page_is_dark_where_people_want_it_so(people, tab):
    tab.open(people.page)
    color = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(color)

    tab.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )

    assert tab.evaluate(color) != light
