"""Before anything is timed: everyone gives the same answers, and the rows are there."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from uuid import UUID

from benchmarks.database import Database
from benchmarks.servers import Answer, Server

MEMBERS = {"id", "email", "name", "created_at", "status"}
REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
UUID_VERSION = 7
ABSENT = "00000000-0000-7000-8000-000000000000"


class WrongAnswer(Exception):
    """A server does not do the work that is to be timed."""


def check(server: Server) -> str:
    """Register a user and read it back, try what must be refused; return the user's id.

    Raises:
        WrongAnswer: naming everything that differs.
    """
    assert server.database is not None
    new = {"email": f"Check.{server.subject.key}@example.com", "name": "Ada Lovelace"}
    created = server.ask("POST", "/users", new)
    problems = list(created_problems(created, new))
    if problems:
        raise WrongAnswer(f"{server.subject.label}: {'; '.join(problems)}")
    user_id = str(created.document["id"])
    problems += row_problems(server.database, user_id, new)
    path = f"/users/{user_id}"
    found = server.ask("GET", path)
    problems += status_problems("reading a user", found, HTTPStatus.OK)
    if found.document != created.document:
        problems.append(f"the user reads back as {found.document}, not as {created.document}")
    for what, answer, *expected in (
        ("reading without the key", server.ask("GET", path, headers={}), HTTPStatus.UNAUTHORIZED),
        ("reading nobody", server.ask("GET", f"/users/{ABSENT}"), HTTPStatus.NOT_FOUND),
        ("the address in capitals", _post(server, new, "email", new["email"].upper()), 409),
        ("an address without @", _post(server, new, "email", "ada.example.com"), *REFUSED),
        ("an address with two dots", _post(server, new, "email", "a..b@example.com"), *REFUSED),
        ("an empty name", _post(server, new, "name", " "), *REFUSED),
        ("a name of 201 characters", _post(server, new, "name", "a" * 201), *REFUSED),
    ):
        problems += status_problems(what, answer, *expected)
    if problems:
        raise WrongAnswer(f"{server.subject.label}: {'; '.join(problems)}")
    return user_id


def created_problems(answer: Answer, new: dict[str, str]) -> Iterator[str]:
    """Say what is wrong with the answer to a registration."""
    yield from status_problems("registering", answer, HTTPStatus.CREATED)
    document = answer.document if isinstance(answer.document, dict) else {}
    if set(document) != MEMBERS:
        yield f"the user has the members {sorted(document)}, not {sorted(MEMBERS)}"
        return
    expected = new | {"status": "active"}
    if {name: document[name] for name in expected} != expected:
        yield f"the user is {document}, not {expected}"
    if UUID(document["id"]).version != UUID_VERSION:
        yield f"the id {document['id']} is not of version {UUID_VERSION}"
    if not answer.headers.get("location", "").endswith(f"/users/{document['id']}"):
        yield "Location does not name the user"


def status_problems(what: str, answer: Answer, *expected: int) -> Iterator[str]:
    """Say when an answer has none of the expected statuses."""
    if answer.status not in expected:
        allowed = " or ".join(str(int(each)) for each in expected)
        yield f"{what}: {answer.status} instead of {allowed}"


def row_problems(database: Database, user_id: str, new: dict[str, str]) -> Iterator[str]:
    """Say when the user is not in the database as it was sent."""
    statement = "SELECT email, name, status FROM users WHERE id = %(id)s"
    rows = database.rows(statement, {"id": user_id})
    if rows != [(new["email"], new["name"], "active")]:
        yield f"the database has {rows}"


def _post(server: Server, new: dict[str, str], member: str, value: str) -> Answer:
    return server.ask("POST", "/users", new | {"email": f"Other.{new['email']}", member: value})
