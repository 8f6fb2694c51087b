"""Links for people: what their codes cover, and what ends them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import Undeliverable
from chassis.links import InvalidLink, Links
from chassis.storage.ids import uuid7

SUBJECT = uuid7()
BOUND = ("ada@example.com", "ada@example.com", "5" * 32)
LIFETIMES = {"reset": timedelta(hours=1), "invite": timedelta(days=7)}


def make_links(*secrets, page="https://example.com/account"):
    return Links(*(secrets or ("a secret",)), page=page, lifetimes=LIFETIMES)


@pytest.fixture
def now():
    """The time of this test, and not that at which this file was read."""
    return datetime.now(UTC)


def holds(links, token, *bound):
    """Tell whether a token is read and holds."""
    try:
        return links.holds(links.read(token), *bound)
    except InvalidLink:
        return False


def test_a_link_holds_for_the_values_it_was_made_for(now):
    links = make_links()
    token = links.make("reset", SUBJECT, *BOUND, made_at=now)

    link = links.read(token)

    assert links.holds(link, *BOUND)
    assert (link.purpose, link.subject) == ("reset", SUBJECT)
    assert link.expires_at == int((now + LIFETIMES["reset"]).timestamp())


def test_each_try_makes_the_same_token(now):
    assert make_links().make("reset", SUBJECT, *BOUND, made_at=now) == make_links().make(
        "reset", SUBJECT, *BOUND, made_at=now
    )


@pytest.mark.parametrize("changed", range(len(BOUND)))
def test_a_link_ends_with_each_value_that_it_is_bound_to(changed, now):
    links = make_links()
    token = links.make("reset", SUBJECT, *BOUND, made_at=now)
    other = [f"{each}x" if at == changed else each for at, each in enumerate(BOUND)]

    assert not holds(links, token, *other)


def test_values_do_not_run_into_each_other(now):
    links = make_links()
    token = links.make("reset", SUBJECT, "ab", "c", made_at=now)

    assert holds(links, token, "ab", "c")
    assert not holds(links, token, "a", "bc")
    assert not holds(links, token, "abc")


def test_nothing_holds_once_a_single_byte_is_another(now):
    links = make_links()
    token = links.make("reset", SUBJECT, *BOUND, made_at=now)

    for at, letter in enumerate(token):
        for other in {chr(ord(letter) ^ 1), letter.swapcase(), ""} - {letter}:
            assert not holds(links, token[:at] + other + token[at + 1 :], *BOUND), at


PARTS = ("purpose", "subject", "until", "code")


@pytest.mark.parametrize(
    "edit",
    [
        {"purpose": "invite"},
        {"subject": uuid7().hex},
        {"subject": "{{{subject}}}"},
        {"subject": "{subject:>34}"},
        {"until": "1{until}"},
        {"until": "0{until}"},
        {"until": "٣"},
        {"code": "{code}="},
        {"code": ""},
        {"code": "{code}\udcff"},
    ],
)
def test_edited_tokens_do_not_hold(edit, now):
    links = make_links()
    token = links.make("reset", SUBJECT, *BOUND, made_at=now)
    parts = dict(zip(PARTS, token.split("."), strict=True))
    edited = parts | {name: text.format(**parts) for name, text in edit.items()}

    assert holds(links, ".".join(parts.values()), *BOUND)
    assert not holds(links, ".".join(edited.values()), *BOUND)


@pytest.mark.parametrize("token", ["", ".", "...", "a" * 100_000, "....", "reset", "\0.\0.\0.\0"])
def test_garbled_tokens_are_invalid_links(token):
    with pytest.raises(InvalidLink):
        make_links().read(token)


def test_a_link_ends_at_its_expiry(now):
    links = make_links()
    lately = now - LIFETIMES["reset"] + timedelta(minutes=10)
    before = links.make("reset", SUBJECT, *BOUND, made_at=lately)
    after = links.make("reset", SUBJECT, *BOUND, made_at=now - LIFETIMES["reset"])

    assert holds(links, before, *BOUND)
    assert not holds(links, after, *BOUND)
    assert links.read(after).expires_at <= time.time()


def test_a_secret_before_verifies_and_does_not_sign(now):
    old, rotated = make_links("old"), make_links("new", "old")
    token = old.make("reset", SUBJECT, *BOUND, made_at=now)

    assert holds(rotated, token, *BOUND)
    assert rotated.make("reset", SUBJECT, *BOUND, made_at=now) != token
    assert not holds(make_links("new"), token, *BOUND)


def test_a_link_of_a_purpose_that_is_no_longer_known_does_not_hold(now):
    token = make_links().make("invite", SUBJECT, *BOUND, made_at=now)
    links = Links("a secret", page="", lifetimes={"reset": timedelta(hours=1)})

    assert not holds(links, token, *BOUND)


def test_the_token_stands_behind_a_number_sign_which_no_server_sees(now):
    links = make_links()
    token = links.make("reset", SUBJECT, *BOUND, made_at=now)

    assert links.address(token) == f"https://example.com/account#{token}"


def test_without_a_page_there_is_no_address():
    with pytest.raises(Undeliverable):
        make_links(page="").address("reset")
