"""The way of docs/from-sqlite-to-postgresql.md, with its own commands."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from admin import AdminCommands
from bootstrap import open_backing_services
from config import AppConfig
from tests.conftest import API_KEY, make_app
from tests.support import processes
from tests.support.factories import CHEAP_HASHER
from tests.support.waiting import DEADLINE_SECONDS
from tests.test_hashes import bcrypt_of
from userservice.jobs import imports

DOCUMENT = processes.ROOT / "docs" / "from-sqlite-to-postgresql.md"
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
KEY = {"X-API-Key": API_KEY}
PASSWORD = "a long enough sentence"


class Service:
    """The service on one database, with its only caller."""

    def __init__(self, database_url):
        config = AppConfig(
            database_url=database_url, redis_url="", api_key=API_KEY, rate_limit_enabled=False
        )
        self.services = replace(open_backing_services(config), hasher=CHEAP_HASHER)
        self.commands = AdminCommands(config, self.services)
        self.client = make_app(config, self.services).test_client()

    def log_in(self, email, password=PASSWORD):
        form = {"grant_type": "password", "username": email, "password": password}
        return self.client.post("/auth/token", data=form)

    def read(self, address, headers=None):
        return self.client.get(address, headers=headers or KEY)

    def bring(self, line):
        headers = KEY | {"Content-Type": "application/x-ndjson"}
        job = self.client.post("/users/import", data=line, headers=headers).json
        while imports.run_import_step(self.services, UUID(job["id"])):
            pass


@pytest.fixture
def old(sqlite_url):
    """The service on a file."""
    service = Service(sqlite_url)
    yield service
    service.services.close()


@pytest.fixture
def new(postgresql_url):
    """The service on a server."""
    service = Service(postgresql_url)
    yield service
    service.services.close()


def blocks():
    """Return the blocks of commands; the first sets the variables."""
    return BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))[1:]


def follow(block, folder, old_url, new_url):
    """Run a block as an operator would; return what it printed."""
    variables = {"OLD": old_url, "NEW": new_url, "FILE": str(folder / "users.full")}
    path = f"{Path(sys.executable).parent}:{processes.environment({})['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", block],
        cwd=processes.ROOT,
        env=processes.environment(variables | {"PATH": path, "REDIS_URL": ""}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.integration
def test_users_move_with_ids_dates_passwords_and_rights(
    old, new, tmp_path, sqlite_url, postgresql_url
):
    ada = old.client.post(
        "/users", json={"email": "Ada@example.com", "name": "Ada", "password": PASSWORD}
    ).json
    old.client.patch(f"/users/{ada['id']}", json={"name": "Ada Löwe"}, headers=KEY)
    gone = old.client.post("/users", json={"email": "gone@example.com", "name": "Gone"}).json
    old.client.delete(f"/users/{gone['id']}", headers=KEY)
    root = old.commands.create_superuser("root@example.com", PASSWORD)
    hashed = bcrypt_of("the password of before")
    old.bring(f'{{"email":"bob@example.com","name":"Bob","password_hash":"{hashed}"}}\n')
    tokens = old.log_in("ada@example.com").json
    listed = old.read("/users").json["items"]

    printed = [follow(each, tmp_path, sqlite_url, postgresql_url) for each in blocks()]

    assert any("Restored 4 users, 0 were there, refused 0 lines\n" in each for each in printed)
    assert list(tmp_path.glob("users.full*")) == []
    assert new.read("/users").json["items"] == listed
    assert [each["name"] for each in listed] == ["Ada Löwe", "Administrator", "Bob"]
    for each in listed:
        moved, before = (service.read(f"/users/{each['id']}") for service in (new, old))
        assert moved.data == before.data
        assert moved.headers["ETag"] == before.headers["ETag"]
        assert moved.headers["Last-Modified"] == before.headers["Last-Modified"]
    assert [u["id"] for u in new.read("/users?status=deleted").json["items"]] == [gone["id"]]
    assert new.log_in("ada@example.com").status_code == 200
    assert new.log_in("bob@example.com", "the password of before").status_code == 200
    assert new.log_in("ada@example.com", "another sentence").status_code == 400
    bearer = {"Authorization": f"Bearer {new.log_in('root@example.com').json['access_token']}"}
    assert new.read("/users", bearer).status_code == 200
    assert new.read("/users/me", bearer).json["id"] == str(root.id)
    assert_log_ins_ended(new, tokens)


def assert_log_ins_ended(service, tokens):
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert service.read("/users/me", bearer).status_code == 401
    assert service.client.post("/auth/token", data=form).status_code == 400
