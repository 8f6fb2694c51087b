from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from chassis.errors import InvalidRequest, Unavailable
from chassis.security import PasswordHasher, composed, same_secret
from chassis.signatures import PageTokens
from tests.support.factories import CHEAP_HASHER

AFTER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
tokens = PageTokens("secret", "")


@given(st.text(min_size=1))
def test_a_secret_equals_itself(secret):
    assert same_secret(secret, secret)


@pytest.mark.parametrize("given_secret", ["", "Key", "key ", "ke", "keyy", "kéy"])
def test_another_secret_is_not_the_same(given_secret):
    assert not same_secret(given_secret, "key")


@pytest.mark.parametrize("given_secret", ["", "anything"])
def test_nothing_equals_a_secret_that_is_not_set(given_secret):
    assert not same_secret(given_secret, "")


def test_a_password_is_hashed_with_argon2id_at_the_strength_that_is_recommended():
    hashed = PasswordHasher().hash("correct horse")

    parameters = argon2.extract_parameters(hashed)
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost) == (19_456, 2)
    assert parameters.salt_len >= 16


@given(st.text(max_size=128))
def test_a_hash_verifies_its_password_and_no_other(password):
    hashed = CHEAP_HASHER.hash(password)

    assert CHEAP_HASHER.verify(hashed, password)
    assert argon2.PasswordHasher().verify(hashed, composed(password))
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        argon2.PasswordHasher().verify(hashed, f"{password}x")


TYPED = {"NFC": "Zw\xf6lf M\xf6belp\xe4ckchen", "NFD": "Zwo\u0308lf Mo\u0308belpa\u0308ckchen"}


@pytest.mark.parametrize("first", TYPED.values(), ids=TYPED)
@pytest.mark.parametrize("again", TYPED.values(), ids=TYPED)
def test_a_password_is_the_same_however_a_keyboard_composes_it(first, again):
    assert CHEAP_HASHER.verify(CHEAP_HASHER.hash(first), again)
    assert not CHEAP_HASHER.verify(CHEAP_HASHER.hash(first), again + "\u0308")


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
def test_a_hash_of_a_password_as_it_was_typed_still_holds(typed):
    older = argon2.PasswordHasher(memory_cost=8, time_cost=1, parallelism=1).hash(typed)

    assert CHEAP_HASHER.verify(older, typed)


@pytest.mark.parametrize("other", ["a\0c", "a\0", "a", "a\0b ", "a\0b\n", " a\0b", "a\0B"])
def test_no_part_of_a_password_is_left_out(other):
    assert CHEAP_HASHER.verify(CHEAP_HASHER.hash("a\0b"), "a\0b")
    assert not CHEAP_HASHER.verify(CHEAP_HASHER.hash("a\0b"), other)


def test_the_last_byte_of_the_longest_password_counts():
    longest = "\U0001f600" * 127  # 4 bytes each

    hashed = CHEAP_HASHER.hash(f"{longest}a")

    assert CHEAP_HASHER.verify(hashed, f"{longest}a")
    assert not CHEAP_HASHER.verify(hashed, f"{longest}b")


def test_the_same_password_has_another_hash_each_time():
    assert CHEAP_HASHER.hash("correct horse") != CHEAP_HASHER.hash("correct horse")


def test_a_hash_that_gets_no_turn_is_unavailable_after_its_patience():
    crowded = PasswordHasher(
        memory_kib=8, time_cost=1, parallel=0, patience=timedelta(seconds=0.05)
    )

    begin = time.monotonic()
    with pytest.raises(Unavailable):
        crowded.hash("correct horse")

    assert time.monotonic() - begin >= 0.05


def test_hashes_that_queue_all_get_their_turn():
    hasher = PasswordHasher(memory_kib=8, time_cost=1, parallel=1, patience=timedelta(seconds=20))

    with ThreadPoolExecutor(8) as threads:
        hashes = list(threads.map(hasher.hash, ["correct horse"] * 40))

    assert len(set(hashes)) == 40


# Four tebibytes, which no machine has to spare.
TOO_MUCH_KIB = 2**32 - 1
COSTLY_HASH = f"$argon2id$v=19$m={TOO_MUCH_KIB},t=1,p=1$c29tZXNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"


def test_a_password_that_there_is_no_memory_for_is_neither_right_nor_wrong():
    hasher = PasswordHasher(memory_kib=8, time_cost=1)

    with pytest.raises(Unavailable):
        hasher.verify(COSTLY_HASH, "correct horse")


def test_a_password_that_there_is_no_memory_for_can_be_hashed_later():
    hasher = PasswordHasher(memory_kib=TOO_MUCH_KIB, time_cost=1)

    with pytest.raises(Unavailable):
        hasher.hash("correct horse")


def test_a_hash_that_nobody_can_read_matches_no_password():
    assert not PasswordHasher(memory_kib=8, time_cost=1).verify("no hash", "correct horse")


def test_a_hash_that_fails_gives_its_turn_back():
    hasher = PasswordHasher(memory_kib=8, time_cost=1, parallel=1, patience=timedelta(seconds=0))

    with pytest.raises(UnicodeEncodeError):
        hasher.hash("\ud800")

    assert hasher.hash("correct horse")


@given(st.uuids(), st.lists(st.none() | st.text(max_size=20), max_size=3))
def test_a_page_token_returns_what_was_signed(after, filters):
    assert tokens.read(tokens.sign(after, *filters), *filters) == after


@given(st.uuids())
def test_a_page_token_needs_no_escaping_in_a_url(after):
    assert set(tokens.sign(after, "é", None)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    )


@pytest.mark.parametrize(
    "filters",
    [(), ("active",), ("active", None), ("active", "b"), ("deleted", "a"), ("a", "active")],
)
def test_a_page_token_of_another_list_is_refused(filters):
    token = tokens.sign(AFTER, "active", "a")

    with pytest.raises(InvalidRequest, match="belongs to another list"):
        tokens.read(token, *filters)


@given(st.integers(min_value=0), st.characters(codec="ascii"))
def test_a_page_token_with_one_character_changed_is_refused_or_means_the_same(position, character):
    token = tokens.sign(AFTER)
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]

    try:
        read = tokens.read(changed)
    except InvalidRequest:
        return

    assert read == AFTER  # the last character of Base64 has bits to spare


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_text_that_is_no_page_token_is_refused(text):
    with pytest.raises(InvalidRequest, match="Page token is not valid"):
        tokens.read(text)


def test_a_page_token_of_another_secret_is_refused():
    token = PageTokens("another", "").sign(AFTER)

    with pytest.raises(InvalidRequest, match="Page token is not valid"):
        tokens.read(token)


def test_something_else_that_the_secret_signed_is_no_page_token():
    token = URLSafeSerializer("secret", salt="something-else").dumps([AFTER.hex])

    with pytest.raises(InvalidRequest, match="Page token is not valid"):
        tokens.read(token)


def test_a_page_token_of_the_former_secret_is_still_read():
    token = PageTokens("former", "").sign(AFTER, "active")

    assert PageTokens("secret", "former").read(token, "active") == AFTER


def test_new_page_tokens_are_signed_with_the_new_secret():
    token = PageTokens("secret", "former").sign(AFTER)

    assert tokens.read(token) == AFTER
