"""Limits at the routes of addresses: nobody is exempt who could guess on."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tests.conftest import make_app
from tests.emails.accounts import Account
from tests.support.factories import make_user
from userservice.users.links_queries import find_holder
from userservice.users.service import delete_user, get_user

PASSWORD = "correct horse battery"


@pytest.fixture
def limited(config, services):
    """A caller of a service with its own limits, but for those of log-ins."""
    limits = {"rate_limit_enabled": True, "rate_limit_login": "1000/minute"}
    return make_app(replace(config, **limits), services).test_client()


@pytest.mark.parametrize("is_superuser", [False, True])
def test_a_password_can_be_guessed_ten_times_a_minute_by_nobody(limited, database, is_superuser):
    user = make_user(database, password=PASSWORD, is_superuser=is_superuser)
    thief = Account(limited, user, PASSWORD)

    guesses = [thief.change(f"e{n}@example.com", f"guess {n}") for n in range(10)]
    right = thief.change("eve@example.com")

    assert {each.status_code for each in guesses} == {403}
    assert right.status_code == 429
    assert "Retry-After" in right.headers


def test_one_user_does_not_use_up_what_another_may(limited, database):
    ada, grace = (
        Account(limited, make_user(database, password=PASSWORD), PASSWORD) for _ in range(2)
    )
    for n in range(11):
        ada.change(f"e{n}@example.com", "guess")

    assert grace.change("grace@example.com").status_code == 202


def test_an_address_gets_five_mails_an_hour_from_whichever_users(limited, database):
    statuses = [
        Account(limited, make_user(database, password=PASSWORD), PASSWORD)
        .change("victim@example.com")
        .status_code
        for _ in range(6)
    ]

    assert statuses == [202] * 5 + [429]


@pytest.mark.parametrize("is_superuser", [False, True])
def test_guesses_at_a_password_use_up_no_mails_of_an_address(limited, database, is_superuser):
    users = [make_user(database, password=PASSWORD, is_superuser=is_superuser) for _ in range(6)]
    for user in users:
        assert Account(limited, user, PASSWORD).change("ada@example.net", "x").status_code == 403

    answers = [Account(limited, each, PASSWORD).change("ada@example.net") for each in users]

    assert [each.status_code for each in answers] == [202] * 5 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert {each.headers["RateLimit-Policy"].partition(";")[0] for each in answers} == {
        '"password"'
    }
    assert Account(limited, users[-1], PASSWORD).change("eve@example.net").status_code == 202


def test_a_wish_beyond_the_limit_of_its_address_replaces_none(limited, database):
    for _ in range(5):
        limited.post("/auth/password/forgot", json={"email": "victim@example.com"})
    user = make_user(database, password=PASSWORD)
    ada = Account(limited, user, PASSWORD)

    assert ada.change("ada@example.net").status_code == 202
    assert ada.change("victim@example.com").status_code == 429

    with database.connection() as connection:
        holder = find_holder(connection, user.id)
    assert holder is not None
    assert holder.pending_email == "ada@example.net"


def test_a_user_gets_five_links_an_hour(limited, database):
    ada = Account(limited, make_user(database, password=PASSWORD), PASSWORD)

    assert [ada.ask_to_verify().status_code for _ in range(6)] == [202] * 5 + [429]


def test_an_address_gets_five_links_an_hour_however_often_it_is_registered(
    limited, database, mails
):
    document = {"email": "victim@example.com", "name": "Eve", "password": PASSWORD}
    templates = []
    for _ in range(4):
        user_id = UUID(limited.post("/users", json=document).json["id"])
        squatter = Account(limited, get_user(database, user_id), PASSWORD)
        for _ in range(3):
            squatter.ask_to_verify()
        templates += [template for template, _to in mails.sent()]
        delete_user(database, user_id)

    assert templates.count("verify_email") == 5


def test_a_registration_beyond_the_limit_is_answered_like_any_other(limited):
    for _ in range(5):
        limited.post("/auth/password/forgot", json={"email": "victim@example.com"})
    document = {"name": "Ada", "password": PASSWORD}

    beyond = limited.post("/users", json={**document, "email": "victim@example.com"})
    within = limited.post("/users", json={**document, "email": "victim2@example.com"})

    assert (beyond.status_code, beyond.json["status"]) == (201, "active")
    assert set(beyond.headers.keys()) == set(within.headers.keys())


def test_wishes_that_wait_are_not_all_mailed_to_the_last_one(ada, mails):
    for n in range(3):
        ada.change(f"a{n}@example.net")
    ada.change("victim@example.com")

    assert mails.sent() == [("change_email", "victim@example.com")]


def test_links_for_an_address_are_not_mailed_to_the_next_one(ada, off_app, mails):
    for _ in range(3):
        ada.ask_to_verify()
    ada.change("victim@example.com", client=off_app.test_client())

    assert mails.sent() == []
