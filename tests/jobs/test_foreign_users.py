"""Users of another service: with hashes of their passwords, and with unknown members."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from tests.test_hashes import ENCODED, PASSWORD, bcrypt_of, django_of
from userservice.jobs import imports, rows, service, uploads
from userservice.jobs.models import UploadFormat
from userservice.users.models import User

GRACE = {"email": "Grace@example.com", "name": "Grace Hopper"}


@pytest.fixture
def bring(services):
    """Call that imports documents, and returns the job and its refusals."""

    def run(*documents):
        lines = "".join(json.dumps(each) + "\n" for each in documents)
        return bring_bytes(services, lines.encode())

    return run


def bring_bytes(services, data, upload_format=UploadFormat.NDJSON):
    job = uploads.start_import(services.database, upload_format, [data])
    while imports.run_import_step(services, job.id):
        pass
    return service.get_job(services.database, job.id)


def log_in(client, password, email=GRACE["email"]):
    form = {"grant_type": "password", "username": email, "password": password}
    return client.post("/auth/token", data=form).status_code


def stored(database, column):
    with database.connection() as connection:
        return connection.scalar(select(column))


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED)
def test_a_user_logs_in_with_the_password_of_before_and_has_a_hash_of_ours_then(
    bring, client, services, encoded
):
    job, refusals = bring(GRACE | {"password_hash": encoded})

    assert (job.created, refusals) == (1, [])
    assert log_in(client, "wrong " + PASSWORD) == 400
    assert log_in(client, PASSWORD) == 200
    renewed = stored(services.database, User.password_hash)
    assert not services.hasher.is_outdated(renewed)
    assert log_in(client, PASSWORD) == 200


def test_a_table_brings_hashes_as_well(services, client):
    header = "email,name,password_hash,email_verified"
    table = f"{header}\n{GRACE['email']},Grace,{django_of(PASSWORD)},yes\n"

    job, refusals = bring_bytes(services, table.encode(), UploadFormat.CSV)

    assert (job.created, refusals) == (1, [])
    assert stored(services.database, User.verified_key) == "grace@example.com"
    assert log_in(client, PASSWORD) == 200


REFUSED = {
    "password": (
        {"password": "a long enough sentence"},
        "Password hash must not come with a password",
    ),
    "malformed": (
        {"password_hash": bcrypt_of(PASSWORD)[:-1] + "A"},
        "Password hash is not well-formed",
    ),
    "unknown": (
        {"password_hash": "5f4dcc3b5aa765d61d8327deb882cf99"},
        "Password hash must be a hash by argon2id, argon2i, bcrypt, pbkdf2-sha256 or pbkdf2-sha512",
    ),
    "costly": (
        {"password_hash": bcrypt_of(PASSWORD).replace("$04$", "$15$")},
        "Password hash costs too much: bcrypt may have a cost of 14",
    ),
    "long": ({"password_hash": "x" * 513}, "Password hash must have at most 512 characters"),
    "number": ({"password_hash": 1}, "Password hash must be a string"),
}


@pytest.mark.parametrize(("members", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_line_with_a_hash_that_cannot_be_taken_is_refused_and_says_why(bring, members, reason):
    given = {"password_hash": bcrypt_of(PASSWORD)} | members

    job, refusals = bring(GRACE | given, {"email": "ada@example.com", "name": "Ada"})

    assert job.created == 1
    assert [tuple(each) for each in refusals] == [(1, "/password_hash", reason)]


@pytest.mark.parametrize(
    ("given", "key"),
    [(True, "grace@example.com"), (False, None), (None, None), ("true", "grace@example.com")],
)
def test_an_address_is_verified_if_the_line_says_so(bring, services, given, key):
    bring(GRACE | {"email_verified": given})

    assert stored(services.database, User.verified_key) == key


def test_an_answer_that_is_neither_yes_nor_no_is_refused(bring):
    _, refusals = bring(GRACE | {"email_verified": "maybe"})

    assert [each[1:] for each in refusals] == [
        ("/email_verified", "Email verified must be true or false")
    ]


def test_a_user_who_is_there_keeps_password_and_address(bring, client, services):
    client.post("/users", json=GRACE | {"password": "a long enough sentence"})

    job, refusals = bring(GRACE | {"password_hash": bcrypt_of(PASSWORD), "email_verified": True})

    assert (job.created, len(refusals)) == (0, 1)
    assert stored(services.database, User.verified_key) is None
    assert log_in(client, PASSWORD) == 400
    assert log_in(client, "a long enough sentence") == 200


def test_a_registration_takes_neither_a_hash_nor_a_verification(client, services):
    given = {"password_hash": bcrypt_of(PASSWORD), "email_verified": True}

    response = client.post("/users", json=GRACE | given)

    assert response.status_code == 201
    assert stored(services.database, User.password_hash) is None
    assert stored(services.database, User.verified_key) is None


def test_members_that_no_user_has_are_counted_by_their_names(services, service_client, caplog):
    lines = [GRACE | {"id": 7, "tier": "pro"}, {"email": "ada@example.com", "name": "A", "id": 8}]
    body = "".join(json.dumps(each) + "\n" for each in [*lines, {"id": 9}])

    with caplog.at_level("INFO"):
        job, _ = bring_bytes(services, body.encode())
    shown = service_client.get(f"/jobs/{job.id}").json

    assert shown["ignored"] == {"id": 2}  # of lines that were refused, nothing was taken at all
    (ended,) = (each for each in caplog.records if each.message == "Import ended")
    assert ended.ignored == {"id": 2}


def test_of_many_members_the_first_are_named_and_no_text_that_is_no_name(services):
    many = {f"member{number}": 1 for number in range(30)}
    odd = {"ada@example.com": 1, "x" * 65: 1, "two words": 1, "line\nend": 1, "": 1}

    job, _ = bring_bytes(services, (json.dumps(GRACE | odd | many) + "\n").encode())

    named = {name for name in job.ignored if name != rows.OTHERS}
    assert named == {f"member{number}" for number in range(rows.SHOWN_MEMBERS - 1)}
    assert job.ignored[rows.OTHERS] == len(odd) + len(many) - len(named)


def test_names_are_added_up_over_the_pieces_of_an_upload(services, monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 256)
    lines = [{"email": f"u{n}@example.com", "name": "U", "id": n} for n in range(20)]
    body = "".join(json.dumps(each) + "\n" for each in lines)

    job, _ = bring_bytes(services, body.encode())

    assert job.created == 20
    assert job.ignored == {"id": 20}


def test_the_cost_of_an_import_does_not_depend_on_that_of_its_hashes(bring, services):
    dear = bcrypt_of(PASSWORD).replace("$04$", "$14$")

    job, _ = bring(GRACE | {"password_hash": dear})

    assert job.created == 1
    assert stored(services.database, User.password_hash) == dear
