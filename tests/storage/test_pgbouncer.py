"""The service behind the PgBouncer of k8s/examples/pgbouncer.yaml, where there is one."""

from __future__ import annotations

import os
import re
import shutil

import pytest
import yaml
from sqlalchemy import text

from app import create_app
from bootstrap import open_backing_services
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.support.manifests import ROOT
from tests.support.ports import HOST
from tests.support.servers import NOBODY, PostgreSQLServer, Server
from tests.upgrades.record import KEY, act, deliver

EXAMPLE = (ROOT / "k8s" / "examples" / "pgbouncer.yaml").read_text(encoding="utf-8")
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


class PgBouncerServer(Server):
    """PgBouncer with the example's settings, less TLS and passwords, and two connections."""

    readiness = "process up"

    def __init__(self, target):
        self.user = NOBODY if os.geteuid() == 0 else None
        super().__init__()
        self.target = target

    @property
    def url(self):
        return f"postgresql://app@{HOST}:{self.port}/app"

    def command(self):
        settings = yaml.safe_load(EXAMPLE.split("\n---\n")[0])["data"]["pgbouncer.ini"]
        for pattern, ours in (
            (r"^app = .*", f"app = host={HOST} port={self.target} dbname=postgres user=app"),
            (r"^listen_addr = .*", f"listen_addr = {HOST}"),
            (r"^listen_port = .*", f"listen_port = {self.port}"),
            (r"^auth_type = .*", "auth_type = any"),
            (r"^auth_file = .*", ""),
            (r"^server_tls_sslmode = .*", ""),
            (r"^default_pool_size = .*", "default_pool_size = 2"),
        ):
            settings, count = re.subn(pattern, ours, settings, flags=re.MULTILINE)
            assert count == 1, pattern
        (self.folder / "pgbouncer.ini").write_text(settings)
        return [PROGRAM, self.folder / "pgbouncer.ini"]


@pytest.fixture
def url():
    """The way to a migrated database, whose role has what the example asks for."""
    with PostgreSQLServer() as server:
        database = DatabaseManager(server.url).initialize()
        migrations.upgrade(database)
        with database.connection() as connection:
            for statement in re.findall(r"ALTER ROLE app SET .*;", EXAMPLE):
                connection.execute(text(statement))
        database.close()
        with PgBouncerServer(server.port) as pgbouncer:
            yield pgbouncer.url


def test_all_that_callers_and_workers_do_works_behind_it(url):
    config = AppConfig(
        database_url=url, redis_url="", api_key=KEY["X-API-Key"], rate_limit_enabled=False
    )
    services = open_backing_services(config)
    client = create_app(config, services).test_client()

    act(client)
    deliver(services)

    assert client.get("/ready").status_code == 200
    exported = client.get("/users/export", headers=KEY, buffered=True)
    assert exported.data.count(b"\n") == 2
    services.close()


def test_the_role_has_the_settings_that_it_drops(url, postgresql_url):
    direct, behind = DatabaseManager(postgresql_url), DatabaseManager(url)
    found = []

    for database in (direct, behind):
        with database.initialize().connection() as connection:
            names = ("timezone", "statement_timeout", "idle_in_transaction_session_timeout")
            found.append([connection.scalar(text(f"SHOW {name}")) for name in names])
        database.close()

    assert found[0] == found[1]
