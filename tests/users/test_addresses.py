"""One mailbox is one user, however its address is spelled."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from tests.conftest import API_KEY, make_app
from tests.support.factories import ADA, make_user
from userservice.users.addresses import keys_of, mailbox_key, normalize

SERVICE = {"X-API-Key": API_KEY}
WIDE = "ada@\uff45xample.com"  # a full-width e
PASSWORD = "a long enough sentence"
# Spellings of one mailbox each, as mail servers understand them (UTS 46).
SAME = [
    ("ada@example.com", WIDE),
    ("ada@example.com", "ada@ⓔxample.com"),
    ("ada@example.com", "ada@example。com"),
    ("ada@example.com", "ADA@EXAMPLE.com"),
    ("ida@bücher.example.com", "ida@xn--bcher-kva.example.com"),
    ("ida@bücher.example.com", unicodedata.normalize("NFD", "IDA@B\xdcCHER.example.com")),
    ("ida@bücher.example.com", "ida@XN--BCHER-KVA.example.com"),
    ("ä@faß.de", "a\u0308@xn--fa-hia.de"),
]
# Two mailboxes each.
DIFFERENT = [("ada@faß.de", "ada@fass.de"), ("ada@example.com", "ada@example.org")]


@pytest.mark.parametrize("domain", ["corp.test", "localhost", "printer.LOCAL", "x.invalid"])
def test_an_address_at_a_reserved_domain_is_refused_with_the_reason(domain):
    with pytest.raises(ValueError, match="must not be at a reserved domain, such as test"):
        normalize(f"ada@{domain}")


@pytest.mark.parametrize("email", ["ada", "ada@", "ada@latest", "ada@-.com", "@example.com"])
def test_other_texts_are_no_addresses(email):
    with pytest.raises(ValueError, match="must be a valid e-mail address"):
        normalize(email)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_mailbox_is_one_user_in_any_spelling(client, one, other):
    first = client.post("/users", json=ADA | {"email": one})

    second = client.post("/users", json=ADA | {"email": other})

    assert first.status_code == 201
    assert second.status_code == 409
    assert second.json["code"] == "email_taken"


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_user_is_found_and_logs_in_by_any_spelling(client, one, other):
    made = client.post("/users", json=ADA | {"email": one, "password": PASSWORD})

    found = client.get("/users", query_string={"email": other}, headers=SERVICE)
    form = {"grant_type": "password", "username": other, "password": PASSWORD}
    granted = client.post("/auth/token", data=form)

    assert found.json["items"] == [made.json]
    assert granted.status_code == 200


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_domains_are_different_mailboxes(one, other):
    assert mailbox_key(one) != mailbox_key(other)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_change_of_the_address_cannot_take_a_mailbox_by_another_spelling(
    service_client, database, one, other
):
    make_user(database, email=one)
    grace = make_user(database)

    response = service_client.patch(f"/users/{grace.id}", json={"email": other})

    assert response.status_code == 409
    assert response.json["code"] == "email_taken"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("ida@bücher.example.com", "ida@xn--bcher-kva.example.com"),
        (WIDE, "ada@example.com"),
        ("a\u0308@Example.com", "ä@Example.com"),
        ("  Ada@Example.com\n", "Ada@Example.com"),
    ],
)
def test_an_address_is_stored_with_an_ascii_domain_and_as_typed_otherwise(given, stored):
    assert normalize(given) == stored


@pytest.mark.parametrize("text", ["", "@", "ada", "a@b@c", "ada@", "\u200b@\u200b.com", "ü@ü ü.de"])
def test_any_text_has_keys_so_that_it_can_be_looked_for(text):
    assert all(isinstance(key, str) for key in keys_of(text))


@pytest.mark.parametrize("letter", ["\u200b", "\u00ad", "\u202e", "\u2060", "\ufeff"])
@pytest.mark.parametrize("address", ["a{}da@example.com", "ada@exa{}mple.com"])
def test_an_invisible_letter_makes_no_second_address(client, address, letter):
    response = client.post("/users", json=ADA | {"email": address.format(letter)})

    assert response.status_code == 400


def test_spellings_share_one_limit(config, services):
    limits = {"rate_limit_enabled": True, "rate_limit_registration": "3/minute"}
    client = make_app(replace(config, **limits), services).test_client()
    spellings = ["ada@example.com", WIDE, "ada@ⓔxample.com", "ada@example。com"]

    statuses = [
        client.post(
            "/users",
            json=ADA | {"email": each},
            environ_base={"REMOTE_ADDR": f"203.0.113.{number}"},
        ).status_code
        for number, each in enumerate(spellings)
    ]

    assert statuses == [201, 409, 409, 429]
