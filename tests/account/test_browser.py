"""The page /account in a real browser, from the e-mail to the end: `make browser`."""

from __future__ import annotations

from itertools import count

import pytest

from tests.account.conftest import KEY, PASSWORD, people_of, prefixed
from tests.support.waiting import eventually
from userservice.account.words import MESSAGES

pytestmark = pytest.mark.browser

NEW = "analytical-engine-1837"
FILES = [("GET", "/account"), ("GET", "/account/page.css"), ("GET", "/account/page.js")]
STORES = """(async () => [
  document.cookie, localStorage.length, sessionStorage.length,
  (await indexedDB.databases()).length, (await caches.keys()).length,
])()"""

numbers = count(1)


@pytest.fixture
def email():
    return f"ada{next(numbers)}@example.com"


@pytest.fixture
def user(people, email):
    """The id of a user with PASSWORD."""
    return people.register(email)


@pytest.fixture
def link(people, email, user):  # noqa: ARG001 - it is for that user
    """A link to a new password for that user."""
    people.service.client.post("/auth/password/forgot", json={"email": email})
    return people.link(email, "reset_password")


def asked(tab):
    """Return method and path of the requests, those for the page's files in one order."""
    made = [each[:2] for each in tab.asked]
    return sorted(made[:3]) + made[3:]


def submit(tab, form, **values):
    """Fill in a form and press Enter in its last field."""
    for name, value in values.items():
        tab.fill(f"#{form}-{name}", value)
    tab.press("Enter")


def test_a_forgotten_password_is_replaced_from_the_page_to_the_link_and_back(people, tab, email):
    user_id = people.register(email)
    before = people.log_in(email)

    tab.open(people.page)
    submit(tab, "forgot", address=email)
    eventually(lambda: tab.text("h1") == "Look into your mailbox")
    tab.open(people.link(email, "reset_password"))
    submit(tab, "choose", password=NEW)
    eventually(lambda: tab.text("h1") == "Your password is set")

    assert people.log_in(email)["code"] == "invalid_grant"
    assert "access_token" in people.log_in(email, NEW)
    refresh = {"grant_type": "refresh_token", "refresh_token": before["refresh_token"]}
    assert people.service.client.post("/auth/token", data=refresh).status_code == 400
    assert len(people.sessions(user_id)) == 1


def test_a_token_is_in_no_address_and_no_request_but_the_one_that_spends_it(tab, link):
    token = link.partition("#")[2]

    tab.open(link)
    submit(tab, "choose", password=NEW)
    eventually(lambda: tab.text("h1") == "Your password is set")

    assert tab.history[1:] == [link.partition("#")[0]]
    assert not [each for each in tab.asked if token in each.url]
    assert [each.path for each in tab.asked if token in each.body] == ["/auth/password/reset"]
    assert asked(tab) == [*FILES, ("POST", "/auth/password/reset")]
    assert {each.headers.get("referer", "") for each in tab.asked} == {""}
    assert tab.evaluate(STORES) == ["", 0, 0, 0, 0]


def test_opening_a_link_spends_nothing(people, tab, email, link):
    for _ in range(3):
        tab.open("about:blank")
        tab.open(link)

    assert "access_token" in people.log_in(email)
    assert {each.method for each in tab.asked} == {"GET"}
    submit(tab, "choose", password=NEW)
    eventually(lambda: tab.text("h1") == "Your password is set")


def test_a_user_without_a_password_chooses_one_by_the_invitation(people, tab, email):
    user_id = people.register(email, None)
    people.service.client.post(f"/users/{user_id}/recovery", headers=KEY)

    tab.open(people.link(email, "invitation"))
    title = tab.text("h1")
    submit(tab, "choose", password=NEW)
    eventually(lambda: tab.text("h1") == "Your password is set")

    assert title == "Choose your password"
    assert "access_token" in people.log_in(email, NEW)


def test_an_address_is_confirmed_by_its_user_and_the_log_in_ends(people, tab, email, user):
    tab.open(people.link(email, "verify_email"))
    submit(tab, "confirm", address=email, password=PASSWORD)
    eventually(lambda: tab.text("h1") == "Your e-mail address is confirmed")

    paths = ["/auth/token", "/auth/email/confirm", "/auth/revoke"]
    eventually(lambda: asked(tab) == [*FILES, *(("POST", path) for path in paths)])
    eventually(lambda: people.sessions(user) == [])
    bearer = {"Authorization": f"Bearer {people.log_in(email)['access_token']}"}
    again = people.service.client.post(f"/users/{user}/email/verification", headers=bearer)
    assert again.status_code == 204


def test_a_new_address_is_confirmed_by_the_user_who_asked_for_it(people, tab, email, user):
    new = f"new-{email}"
    bearer = {"Authorization": f"Bearer {people.log_in(email)['access_token']}"}
    wanted = {"email": new, "current_password": PASSWORD}
    people.service.client.post(f"/users/{user}/email", json=wanted, headers=bearer)

    tab.open(people.link(new, "change_email"))
    submit(tab, "confirm", address=email, password=PASSWORD)
    eventually(lambda: tab.text("h1") == "Your new e-mail address holds")

    assert people.service.client.get(f"/users/{user}", headers=KEY).json()["email"] == new


def test_a_link_of_somebody_else_confirms_nothing(people, tab, email):
    people.register(email)
    stranger = f"stranger-{email}"
    stranger_id = people.register(stranger)

    tab.open(people.link(email, "verify_email"))
    submit(tab, "confirm", address=stranger, password=PASSWORD)
    alert = eventually(lambda: tab.text("#alert"))

    assert alert == MESSAGES["foreign"]
    eventually(lambda: people.sessions(stranger_id) == [])


def test_an_address_that_another_has_meanwhile_stays_with_that_other(people, tab, email, user):
    new = f"new-{email}"
    bearer = {"Authorization": f"Bearer {people.log_in(email)['access_token']}"}
    wanted = {"email": new, "current_password": PASSWORD}
    people.service.client.post(f"/users/{user}/email", json=wanted, headers=bearer)
    link = people.link(new, "change_email")
    people.register(new)

    tab.open(link)
    submit(tab, "confirm", address=email, password=PASSWORD)
    alert = eventually(lambda: tab.text("#alert"))

    assert alert == MESSAGES["taken"]
    assert people.service.client.get(f"/users/{user}", headers=KEY).json()["email"] == email


def test_a_log_in_ends_when_the_page_is_left_before_the_answer(people, tab, email, user):
    tab.open(people.link(email, "verify_email"))
    tab.call("Fetch.enable", patterns=[{"urlPattern": "*/auth/email/confirm"}])
    submit(tab, "confirm", address=email, password=PASSWORD)
    eventually(lambda: tab.asked[-1].path == "/auth/email/confirm")
    logged_in = people.sessions(user)

    tab.open("about:blank")

    assert len(logged_in) == 1
    eventually(lambda: people.sessions(user) == [])


def test_the_page_works_below_a_prefix(tmp_path, tab, email):
    variables = {"TRUSTED_PROXY_HOPS": "1"}
    with people_of(tmp_path, **variables) as people, prefixed(people.service) as page:
        people.register(email)
        tab.open(page)
        submit(tab, "forgot", address=email)
        token = people.link(email, "reset_password").partition("#")[2]
        tab.open(f"{page}#{token}")
        submit(tab, "choose", password=NEW)
        eventually(lambda: tab.text("h1") == "Your password is set")

        assert "access_token" in people.log_in(email, NEW)
    assert {each.path.split("/")[1] for each in tab.asked} == {"svc"}


def test_the_keyboard_alone_is_enough(people, tab, email, link):
    tab.open(link)
    focused = []
    for _ in range(4):
        tab.press("Tab")
        focused.append(tab.evaluate("document.activeElement.id || document.activeElement.type"))
        if focused[-1] == "choose-password":
            tab.call("Input.insertText", text=NEW)
    tab.press("Space")
    eventually(lambda: tab.text("h1") == "Your password is set")

    assert focused == ["choose-address", "choose-password", "button", "submit"]
    assert tab.evaluate("document.activeElement.id") == "title"
    assert "access_token" in people.log_in(email, NEW)
