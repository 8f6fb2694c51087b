from __future__ import annotations

import json
import unicodedata

import email_validator
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.errors import InvalidRequest
from userservice.users.addresses import mailbox_key
from userservice.users.schemas import UserCreate, UserRead, UserUpdate

ADA = {"email": "ada@example.com", "name": "Ada"}
CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"]
# Marks of direction, and letters without width.
CONTROLS += ["\u061c", "\u200b", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F))]
CONTROLS += ["\u2060", *map(chr, range(0x2066, 0x206A)), "\ufeff"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
member = st.sampled_from(["email", "name", "password", "source", "tier", "id", "x"])
document = st.dictionaries(member, anything | st.just("ada@example.com"))
# One that is a user as often as not, whatever its name.
likely_user = st.fixed_dictionaries({"email": st.just("ada@example.com"), "name": st.text()})
word = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True)
# Most of these are addresses, a few are not.
address_like = st.builds(
    "{}@{}.{}".format,
    st.text(st.characters(codec="utf-8"), max_size=30) | word,
    st.text(st.characters(codec="utf-8"), max_size=10) | word,
    st.sampled_from(["com", "gr", "рф", "c\u200dm", "de."]),
)
# Made of what most addresses are made of; many of these are none.
plain_address = st.from_regex(r"[a-zA-Z0-9._+-]{1,70}@[a-z0-9.-]{1,70}", fullmatch=True)


def load(**members):
    """Read a new user that differs from Ada in these members."""
    return UserCreate.load(json.dumps(ADA | members).encode())


def try_to_load(schema, body):
    """Read a body; None when it is refused. Any other exception fails the test."""
    try:
        return schema.load(body)
    except InvalidRequest:
        return None


# Any input


@given(st.binary(max_size=300))
@example(b"\xff\xfe{\x00}\x00")
@example("{}".encode("utf-16"))
@example("{}".encode("utf-32"))
@example(b"\xef\xbb\xbf{}")
@example(b'{"email": "\xff@example.com", "name": "Ada"}')
@example(b'{"email": "ada@example.com", "name": "\xed\xa0\x80"}')
@example(b'{"email": "ada@example.com", "name": "\xc0\x80"}')
def test_bytes_that_are_no_user_are_refused(body):
    assert try_to_load(UserCreate, body) is None


@given(document | likely_user)
@example({"email": "ada@example.com", "name": " Ze\u0301 "})
def test_any_document_is_a_user_or_refused(members):
    for body in (json.dumps(members).encode(), json.dumps(members, ensure_ascii=True).encode()):
        new = try_to_load(UserCreate, body)

        if new is not None:
            assert new.email.strip() == new.email
            assert new.email.rpartition("@")[2].isascii()
            assert new.name == unicodedata.normalize("NFC", members["name"].strip())


@given(document)
def test_any_document_is_a_patch_or_refused(members):
    changes = try_to_load(UserUpdate, json.dumps(members).encode())

    if changes is not None:
        assert set(members) <= {"email", "name"}
        assert changes.model_fields_set == set(members)


HOSTILE = {
    "deep array": b"[" * 30_000 + b"]" * 30_000,
    "deep object": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep member": b'{"email":"a@example.com","name":"A","x":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    "huge integer": b'{"email":"a@example.com","name":"A","x":1' + b"0" * 20_000 + b"}",
    "huge exponent": b'{"email":"a@example.com","name":1e999999}',
    "NaN": b'{"email":"a@example.com","name":"A","x":NaN}',
    "infinity": b'{"email":"a@example.com","name":"A","x":-Infinity}',
    "lone high surrogate": b'{"email":"a@example.com","name":"A\\ud800"}',
    "lone low surrogate": b'{"email":"a@example.com","name":"A\\udc00"}',
    "surrogate in an address": b'{"email":"a\\ud800@example.com","name":"A"}',
    "surrogate in a member name": b'{"email":"a@example.com","name":"A","\\ud800":1}',
    "raw NUL": b'{"email":"a@example.com","name":"A\x00"}',
    "escaped NUL": b'{"email":"a@example.com","name":"A\\u0000"}',
    "NUL in an address": b'{"email":"a\\u0000@example.com","name":"A"}',
    "NUL in a source": b'{"email":"a@example.com","name":"A","source":"\\u0000"}',
    "trailing comma": b'{"email":"a@example.com","name":"A",}',
    "comment": b'{"email":"a@example.com","name":"A"} // Ada',
    "two documents": b'{"email":"a@example.com","name":"A"}{}',
    "single quotes": b"{'email':'a@example.com','name':'A'}",
    "byte order mark": b'\xef\xbb\xbf{"email":"a@example.com","name":"A"}',
    "UTF-16": '{"email":"a@example.com","name":"A"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"email":"a@example.com","name":"A"}'.encode("utf-16-le"),
    "UTF-32": '{"email":"a@example.com","name":"A"}'.encode("utf-32"),
    "Latin-1": '{"email":"a@example.com","name":"Zo\xeb"}'.encode("latin-1"),
    "nothing": b"",
    "spaces": b" \r\n\t",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("schema", [UserCreate, UserUpdate])
def test_hostile_bodies_are_refused(schema, body):
    with pytest.raises(InvalidRequest):
        schema.load(body)


def test_of_a_member_that_is_repeated_the_last_counts():
    new = UserCreate.load(b'{"email":"a@example.com","name":"First","name":"Last"}')

    assert new.name == "Last"


def test_a_member_that_is_repeated_cannot_smuggle_past_the_rules():
    with pytest.raises(InvalidRequest, match="Name is required"):
        UserCreate.load(b'{"email":"a@example.com","name":"Good","name":""}')


def test_a_pair_of_surrogates_is_one_character():
    assert UserCreate.load(b'{"email":"a@example.com","name":"\\ud83d\\ude00"}').name == "😀"


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(InvalidRequest) as refusal:
        load(email="ada", name="", password="short", source=7)

    assert [each.pointer for each in refusal.value.errors] == [
        "/email",
        "/name",
        "/password",
        "/source",
    ]
    assert refusal.value.detail == refusal.value.errors[0].detail


@given(st.text(min_size=1).filter(str.strip))
def test_a_refusal_does_not_repeat_the_value(value):
    marked = f"<{value}>"

    with pytest.raises(InvalidRequest) as refusal:
        load(email=marked, password="<pass>")

    assert marked not in refusal.value.detail
    assert "<pass>" not in str(refusal.value.errors)
    json.dumps([refusal.value.detail, *refusal.value.errors]).encode()


# Addresses


@given(address_like)
@example("a\u0308@example.com")
@example("ada@EXAMPLE.com")
@example("ada@\uff45xample.com")
def test_an_accepted_address_survives_the_way_out_and_in(email):
    try:
        new = load(email=email)
    except InvalidRequest:
        return

    again = UserUpdate.load(json.dumps({"email": new.email}).encode())

    assert again.email == new.email
    assert mailbox_key(new.email) == mailbox_key(email)
    assert 3 <= len(new.email) <= 254
    assert not set(CONTROLS) & set(new.email)
    email_validator.validate_email(new.email, check_deliverability=False)
    assert new.email.encode().decode() == new.email


@given(st.one_of(address_like, plain_address))
@example("a" * 65 + "@example.com")
@example(f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.abcdefg")
@example("a@" + "b." * 91 + "example.com")
def test_an_address_is_accepted_when_the_validator_accepts_it(email):
    try:
        email_validator.validate_email(email.strip(), check_deliverability=False)
        is_valid = True
    except email_validator.EmailNotValidError:
        is_valid = False

    if is_valid:
        load(email=email)
        load(email=email)  # by what is remembered of its domain
    else:
        with pytest.raises(InvalidRequest):
            load(email=email)


@given(address_like)
def test_a_key_is_that_of_its_address_in_any_form(email):
    stored = getattr(
        try_to_load(UserCreate, json.dumps(ADA | {"email": email}).encode()), "email", ""
    )
    key = mailbox_key(stored)

    assert mailbox_key(key) == key
    assert not stored or mailbox_key(email) == key
    assert mailbox_key(unicodedata.normalize("NFD", stored)) == key


@given(st.from_regex(r"[A-Za-z0-9.+_-]{1,30}@[A-Za-z0-9.-]{1,30}", fullmatch=True))
def test_the_key_of_an_ascii_address_is_its_lower_case(email):
    assert mailbox_key(email) == mailbox_key(email.upper()) == email.lower()


@pytest.mark.parametrize(
    "email",
    [
        "a@b.co",
        "ada+tag@example.com",
        "o'hara@example.com",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "δοκιμή@example.com",
        "用户@example.com",
        "ada@xn--bcher-kva.example.com",
        "😀@example.com",
        "a" * 64 + "@example.com",
        f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.abcdef",  # 254 characters
    ],
)
def test_unusual_addresses_are_accepted_as_given(email):
    assert load(email=email).email == email
    assert load(email=f" {email}\n").email == email


@pytest.mark.parametrize(
    "email",
    [
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example",
        "ada@example..com",
        ".ada@example.com",
        "ada.@example.com",
        "a da@example.com",
        "ada@exa mple.com",
        "ada@-example.com",
        "ada@example.com.",
        '"a b"@example.com',
        "ada@[127.0.0.1]",
        "ada@localhost",
        "Ada <ada@example.com>",
        "ada@example.com,grace@example.com",
        "ada@example.com\nBcc: all@example.com",
        "ada\r\n@example.com",
        "ada\u2028@example.com",
        "ada\u200b@exa\u200bmple.com",
        f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.abcdefg",  # 255 characters
        f"ada@{'b' * 64}.com",
        "a" * 60_000,
        "@" * 60_000,
        "a@" + "b." * 30_000 + "com",
        "é" * 30_000 + "@example.com",
    ],
    ids=lambda email: email[:40],
)
def test_what_is_no_address_is_refused(email):
    with pytest.raises(InvalidRequest, match="Email must"):
        load(email=email)


def test_the_length_of_an_address_is_that_of_its_bytes_as_given():
    decomposed = "e\u0301" * 60  # 60 characters when composed, and 180 bytes as it is

    assert load(email=f"{decomposed}@{'b' * 60}.example.co").email
    with pytest.raises(InvalidRequest, match="Email must"):
        load(email=f"{decomposed}@{'b' * 60}.{'c' * 60}.example.com")


# Names


@given(st.text(st.characters(codec="utf-8")))
def test_an_accepted_name_survives_the_way_out_and_in(name):
    try:
        new = load(name=name)
    except InvalidRequest:
        return

    again = UserUpdate.load(json.dumps({"name": new.name}).encode())

    assert again.name == new.name
    assert 1 <= len(new.name) <= 200
    assert new.name == new.name.strip()
    assert unicodedata.is_normalized("NFC", new.name)
    assert not set(CONTROLS) & set(new.name)


@pytest.mark.parametrize("name", ["Zoe\u0308", "Zo\xeb"])
def test_names_are_kept_in_composed_form(name):
    assert load(name=name).name == "Zo\xeb"


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: f"U+{ord(control):04X}")
def test_a_name_with_a_control_character_inside_is_refused(control):
    with pytest.raises(InvalidRequest, match="Name must not contain control characters"):
        load(name=f"Ada{control}Lovelace")


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: f"U+{ord(control):04X}")
@pytest.mark.parametrize("label", ["source", "tier"])
def test_a_label_with_a_control_character_at_its_end_is_refused(label, control):
    with pytest.raises(InvalidRequest, match="must not contain control characters"):
        load(**{label: f"web{control}"})


@pytest.mark.parametrize(
    "name",
    [
        "\u200d",
        "\u200c\u200d",
        "\u3164",
        "\u2800",
        "\u00ad",
        "\ufe0f",
        "\u115f \u1160",
        "\U000e0041",
    ],
)
def test_a_name_of_which_nothing_is_seen_is_refused(name):
    with pytest.raises(InvalidRequest, match="Name must have a letter that can be seen"):
        load(name=name)


@pytest.mark.parametrize(
    "name",
    [
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",  # Persian, joined and not
        "\U0001f469\u200d\U0001f4bb",  # letters that make one
        "\U0001f3f4\U000e0067\U000e0062\U000e007f",  # a flag
        "\u2764\ufe0f",
        "\u0928\u094d\u200d\u0915",
    ],
)
def test_letters_that_join_others_are_part_of_a_name(name):
    assert load(name=name).name == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", ["A", "a" * 200, "é" * 200, "e\u0301" * 200, "😀" * 200])
def test_names_have_1_to_200_characters(name):
    assert load(name=name).name == unicodedata.normalize("NFC", name)
    assert load(name=f"  {name}\t").name == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", ["a" * 201, "😀" * 201, "e\u0301" * 201, "\ufb1d" * 200])
def test_a_name_that_is_too_long_is_refused(name):
    with pytest.raises(InvalidRequest, match="Name must have at most 200 characters"):
        load(name=name)


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u3000", "\xa0\u2003"])
def test_a_name_of_spaces_is_missing(name):
    with pytest.raises(InvalidRequest, match="Name is required"):
        load(name=name)


@pytest.mark.parametrize("name", ["Robert'); DROP TABLE users;--", "<b>", "{{7*7}}"])
def test_a_name_is_text_and_nothing_else(name):
    assert load(name=name).name == name


# The other members


@pytest.mark.parametrize("password", ["7q-zx!4b", "x" * 128, "pässwörd", "a\x00bcdefgh", " " * 8])
def test_passwords_have_8_to_128_characters(password):
    assert load(password=password).password.get_secret_value() == password


@pytest.mark.parametrize("password", ["1234567", "", "x" * 129, "e\u0301" * 7])
def test_a_password_of_another_length_is_refused(password):
    with pytest.raises(InvalidRequest, match="Password must have at"):
        load(password=password)


def test_a_password_is_not_in_the_representation():
    assert "correct horse" not in repr(load(password="correct horse"))


@pytest.mark.parametrize("member", ["password", "source", "tier"])
def test_optional_members_may_be_null(member):
    assert getattr(load(**{member: None}), member) is None


def test_a_user_as_callers_see_it_has_exactly_these_members():
    assert set(UserRead.model_fields) == {"id", "email", "name", "created_at", "status"}
