"""Hashes of other programs: which are taken, and what verifies them."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import bcrypt
import pytest
from argon2.low_level import Type, hash_secret
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.security import generate_password_hash

from chassis import hashes
from chassis.errors import Unavailable
from chassis.security import PasswordHasher, composed
from tests.support.factories import CHEAP_HASHER
from tests.support.waiting import eventually

PASSWORD = "correct horse battery"
SALT = b"salt of a pepper"


def argon2_of(password, *, lanes=1, kind=Type.ID, version=19, length=32):
    memory = 8 * lanes  # KiB, the least
    return hash_secret(password.encode(), SALT, 1, memory, lanes, length, kind, version).decode()


def bcrypt_of(password, prefix="2b"):
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    return f"${prefix}{hashed[3:]}"


def digest_of(password, salt=SALT, algorithm="sha256", iterations=10):
    return hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations)


def base64_of(data):
    return base64.b64encode(data).decode()


def passlib_of(password, algorithm="sha256", iterations=10):
    """Return the form of passlib.hash.pbkdf2_sha256 and pbkdf2_sha512."""
    parts = (SALT, digest_of(password, algorithm=algorithm, iterations=iterations))
    salt, digest = (base64_of(part).rstrip("=").replace("+", ".") for part in parts)
    return f"$pbkdf2-{algorithm}${iterations}${salt}${digest}"


def django_of(password, salt="saltOfDjango0", iterations=10):
    digest = digest_of(password, salt.encode(), iterations=iterations)
    return f"pbkdf2_sha256${iterations}${salt}${base64_of(digest)}"


ENCODED = {
    "argon2id": argon2_of(PASSWORD),
    "argon2i": argon2_of(PASSWORD, kind=Type.I),
    "argon2id of version 16": argon2_of(PASSWORD, version=16),
    "argon2id with 4 lanes": argon2_of(PASSWORD, lanes=4),
    "argon2id by Django": "argon2" + argon2_of(PASSWORD),
    "bcrypt 2a": bcrypt_of(PASSWORD, "2a"),
    "bcrypt 2b": bcrypt_of(PASSWORD, "2b"),
    "bcrypt 2y": bcrypt_of(PASSWORD, "2y"),
    "bcrypt by Django": "bcrypt$" + bcrypt_of(PASSWORD),
    "pbkdf2 by Django": django_of(PASSWORD),
    "pbkdf2 by passlib": passlib_of(PASSWORD),
    "pbkdf2 with SHA-512 by passlib": passlib_of(PASSWORD, "sha512"),
    "pbkdf2 as PHC": passlib_of(PASSWORD).replace(".", "+").replace("$10$", "$i=10,l=32$"),
    "pbkdf2 by Werkzeug": generate_password_hash(PASSWORD, method="pbkdf2:sha256:10"),
}
# As they stand in the documentation of those who write them.
PUBLISHED = {
    "passlib": (
        "password",
        "$pbkdf2-sha256$6400$0ZrzXitFSGltTQnBWOsdAw$Y11AchqV4b0sUisdZd0Xr97KWoymNE0LNNrnEgY4H9M",
    ),
    "OpenBSD": ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
}


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED)
def test_a_hash_of_another_program_verifies_its_password_and_no_other(encoded):
    stored = hashes.normalize(encoded)

    assert CHEAP_HASHER.verify(stored, PASSWORD)
    assert not CHEAP_HASHER.verify(stored, PASSWORD + "x")
    assert not CHEAP_HASHER.verify(stored, "")
    assert CHEAP_HASHER.is_outdated(stored) or stored == ENCODED["argon2id"]
    assert hashes.normalize(stored) == stored


@pytest.mark.parametrize(("password", "encoded"), PUBLISHED.values(), ids=PUBLISHED)
def test_a_published_hash_verifies_its_password(password, encoded):
    assert CHEAP_HASHER.verify(hashes.normalize(encoded), password)


@given(st.text(max_size=128))
@example("a\0b")
@example("é" * 40)
def test_any_password_is_verified_by_a_hash_of_it(password):
    for encoded in (bcrypt_of(password[:18]), passlib_of(password), django_of(password)):
        assert CHEAP_HASHER.verify(hashes.normalize(encoded), password) or password[18:]


def test_bcrypt_reads_the_first_72_bytes_as_those_do_who_made_the_hash():
    hashed = hashes.normalize(bcrypt_of("é" * 36))

    assert CHEAP_HASHER.verify(hashed, "é" * 36 + "and more")
    assert not CHEAP_HASHER.verify(hashed, "é" * 35)


def test_a_hash_of_letters_as_they_were_typed_holds():
    typed = "Zwo\u0308lf Mo\u0308belpa\u0308ckchen"

    assert composed(typed) != typed
    assert CHEAP_HASHER.verify(hashes.normalize(bcrypt_of(typed)), typed)
    assert CHEAP_HASHER.verify(hashes.normalize(bcrypt_of(composed(typed))), typed)


COSTLY = {
    "memory": argon2_of(PASSWORD).replace("m=8", "m=65537"),
    "passes": argon2_of(PASSWORD).replace("t=1", "t=11"),
    "lanes": argon2_of(PASSWORD, lanes=5),
    "bcrypt": bcrypt_of(PASSWORD).replace("$04$", "$15$"),
    "Django's iterations": django_of(PASSWORD).replace("$10$", "$2000001$"),
    "passlib's iterations": passlib_of(PASSWORD).replace("$10$", "$2000001$"),
    "Werkzeug's iterations": ENCODED["pbkdf2 by Werkzeug"].replace(":10$", ":2000001$"),
}


@pytest.mark.parametrize("encoded", COSTLY.values(), ids=COSTLY)
def test_a_hash_that_costs_too_much_to_verify_is_refused(encoded):
    with pytest.raises(ValueError, match="costs too much: "):
        hashes.normalize(encoded)


DEAREST = {
    "argon2": argon2_of(PASSWORD).replace("m=8,t=1", "m=65536,t=10"),
    "bcrypt": bcrypt_of(PASSWORD).replace("$04$", "$14$"),
    "pbkdf2": hashes.normalize(passlib_of(PASSWORD)).replace("$10$", "$2000000$"),
}


@pytest.mark.parametrize("encoded", DEAREST.values(), ids=DEAREST)
def test_the_dearest_hash_that_is_taken_costs_nothing_until_it_is_verified(encoded):
    assert hashes.normalize(encoded) == encoded


MALFORMED = {
    "argon2 with padding": argon2_of(PASSWORD) + "=",
    "argon2 with less memory than its lanes need": argon2_of(PASSWORD, lanes=2).replace(
        "m=16", "m=15"
    ),
    "argon2 without passes": argon2_of(PASSWORD).replace("t=1", "t=0"),
    "argon2 without lanes": argon2_of(PASSWORD).replace("p=1", "p=0"),
    "argon2 of a short digest": argon2_of(PASSWORD, length=12),
    "argon2 of a short salt": argon2_of(PASSWORD).replace(base64_of(SALT).rstrip("="), "c2FsdA"),
    "argon2d": argon2_of(PASSWORD, kind=Type.D),
    "bcrypt at no cost": bcrypt_of(PASSWORD).replace("$04$", "$03$"),
    "bcrypt with spare bits in its salt": bcrypt_of(PASSWORD)[:28] + "A" + bcrypt_of(PASSWORD)[29:],
    "bcrypt with spare bits in its digest": bcrypt_of(PASSWORD)[:-1] + "A",
    "bcrypt that is cut": bcrypt_of(PASSWORD)[:-1],
    "bcrypt 2x": bcrypt_of(PASSWORD, "2x"),
    "pbkdf2 of no iterations": django_of(PASSWORD).replace("$10$", "$0$"),
    "pbkdf2 of a short digest": "pbkdf2_sha256$10$salt$c2hvcnQ=",
    "pbkdf2 of a long digest": f"$pbkdf2-sha256$10$c2FsdA${base64_of(bytes(48))}",
    "pbkdf2 of broken base64": passlib_of(PASSWORD) + "A" * 2,
    "pbkdf2 with SHA-1": passlib_of(PASSWORD).replace("-sha256", ""),
    "plain": PASSWORD,
    "hex": hashlib.sha256(PASSWORD.encode()).hexdigest(),
    "with a line end": bcrypt_of(PASSWORD) + "\n",
    "suspended": "!" + bcrypt_of(PASSWORD),
    "empty": "",
}


@pytest.mark.parametrize("encoded", MALFORMED.values(), ids=MALFORMED)
def test_a_hash_that_no_password_could_match_for_sure_is_refused(encoded):
    with pytest.raises(ValueError, match=r"must (be|have)|is not well-formed") as refused:
        hashes.normalize(encoded)

    assert encoded == "" or encoded not in str(refused.value)


@given(st.text(max_size=200) | st.sampled_from([*ENCODED.values()]).map(lambda each: each[:-9]))
def test_any_text_is_a_hash_or_refused(text):
    try:
        assert hashes.normalize(text)
    except ValueError as refused:
        assert str(refused).startswith(("must", "is not", "costs"))  # noqa: PT017 - either is right


UNREADABLE = {
    "cut": "$2b$04$x",
    "suspended": "!" + ENCODED["bcrypt 2b"],
    "spare bits": MALFORMED["bcrypt with spare bits in its salt"],
    "no base64": "$pbkdf2-sha256$10$AAAAA$AAAAA",
    "no hash": "$pbkdf2-sha256$",
}


@pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
def test_what_was_stored_by_no_import_verifies_nothing(stored):
    assert not CHEAP_HASHER.verify(stored, PASSWORD)


def test_a_foreign_hash_is_verified_in_the_slots_of_all_others():
    hasher = PasswordHasher(memory_kib=8, time_cost=1, parallel=1, patience=timedelta(0))
    slow = bcrypt_of(PASSWORD).replace("$04$", "$14$")

    with ThreadPoolExecutor(1) as threads:
        verifying = threads.submit(hasher.verify, slow, PASSWORD)
        refused = eventually(lambda: is_busy(hasher))

        assert refused
        assert not verifying.result()


def is_busy(hasher):
    try:
        hasher.hash(PASSWORD)
    except Unavailable:
        return True
    return False
