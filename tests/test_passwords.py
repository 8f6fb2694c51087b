from __future__ import annotations

import pytest

from chassis.passwords import is_guessable
from tests.support.factories import ADA
from userservice import SERVICE_NAME, SERVICE_WORDS

COMMON = ["password", "12345678", "PassWord1", "qwertyuiop", "iloveyou", "trustno1"]
CONTEXT = [
    "ada.lovelace@example.com",
    "Ada.Lovelace",
    "adalovelace1!",
    "LOVELACE",
    "lovelace1815",
    "example1",
    SERVICE_WORDS[1],
    f"{SERVICE_WORDS[0].title()}42",
]
FINE = [
    "correct horse battery",
    "tr0ub4dor&3x",
    "lovelace and her engine",
    "ada likes engines",
    "пароль для ады",
    "        blanks        ",
]


@pytest.mark.parametrize("password", COMMON)
def test_common_passwords_are_guessable_in_any_case(password):
    assert is_guessable(password)


@pytest.mark.parametrize("password", CONTEXT)
def test_passwords_made_of_what_is_known_of_the_user_are_guessable(password):
    assert is_guessable(password, "ada.lovelace@example.com", "Ada Lovelace", names=SERVICE_WORDS)


@pytest.mark.parametrize("password", FINE)
def test_other_passwords_are_not(password):
    assert not is_guessable(
        password, "ada.lovelace@example.com", "Ada Lovelace", names=SERVICE_WORDS
    )


def test_what_is_known_of_one_user_does_not_hinder_another():
    assert not is_guessable("lovelace1815", "grace@navy.example", "Grace Hopper")


def test_digits_and_signs_alone_are_no_word_of_the_context():
    assert not is_guessable("8341-5527-9016", "1@2.example", "3 4")


@pytest.mark.parametrize("length", [8, 15, 64, 128])
def test_8_to_128_characters_are_accepted_without_rules_for_their_kind(client, length):
    password = ("zq vw xk " * 15)[:length]

    response = client.post("/users", json=ADA | {"password": password})

    assert response.status_code == 201


def test_characters_count_not_bytes(client):
    assert client.post("/users", json=ADA | {"password": "ж" * 127 + "я"}).status_code == 201


@pytest.mark.parametrize(
    ("password", "detail"),
    [
        ("", "Password must have at least 8 characters"),
        ("zqvwxkj", "Password must have at least 8 characters"),
        ("z" * 129, "Password must have at most 128 characters"),
        (12345678, "Password must be a string"),
        ("password1", "Password is too easy to guess"),
        ("ADA@example.com", "Password is too easy to guess"),
        ("Ada Lovelace", "Password is too easy to guess"),
        (f"{SERVICE_WORDS[2] or SERVICE_NAME}-20242025", "Password is too easy to guess"),
    ],
)
def test_a_password_that_breaks_a_rule_is_refused_and_not_repeated(client, password, detail):
    response = client.post("/users", json=ADA | {"password": password})

    assert response.status_code == 400
    assert response.json["errors"] == [{"pointer": "/password", "detail": detail}]
    assert not password or str(password) not in response.text


def test_a_password_is_in_no_answer(client):
    password = "correct horse battery"

    response = client.post("/users", json=ADA | {"password": password})

    assert "password" not in response.json
    assert password not in response.text


def test_the_names_of_a_service_count_as_a_whole_and_only_where_they_are_handed_in():
    assert is_guessable("orders-api-1", names=["orders-api"])
    assert not is_guessable("orders-zq-1", names=["orders-api"])
    assert not is_guessable("orders-api-1")
