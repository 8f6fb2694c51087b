"""Shared fixtures: real servers, a migrated and empty database, the application on it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import hypothesis
import pytest
import redis as redis_library
from flask.testing import FlaskClient
from sqlalchemy import create_engine, delete, make_url, text

from app import create_app
from bootstrap import open_backing_services
from chassis.security import PasswordHasher
from chassis.storage import migrations
from chassis.storage.columns import Base
from chassis.storage.database import DatabaseManager, with_driver
from config import AppConfig
from tests.support import servers
from tests.support.builders import share_builders
from tests.support.certificates import make_certificate
from tests.support.collector import PROTOCOLS
from tests.support.collector import collector as run_collector
from tests.support.deployment import API_KEY, Deployment
from tests.support.faults import FaultProxy
from tests.support.names import NameServer
from tests.support.provider import MailProvider
from tests.support.spans import memory

__all__ = ["API_KEY", "make_app"]  # what tests take from here besides fixtures


class Client(FlaskClient):
    """Reads each answer to its end and closes it, as servers do; its slot is free again then."""

    def open(self, *args, buffered=True, **kwargs):
        return super().open(*args, buffered=buffered, **kwargs)


# Examples are found by a fixed seed in CI; how long one takes depends on the machine.
hypothesis.settings.register_profile("default", deadline=None, max_examples=60)
hypothesis.settings.load_profile("default")


def pytest_configure(config):
    """Start the servers once; the processes that run tests inherit their addresses."""
    share_builders()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell lets its background jobs ignore Ctrl-C; programs that tests start would, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if (
        signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ):  # so does nohup; a handler is not inherited
        signal.signal(signal.SIGHUP, lambda *_: None)
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    running = ExitStack()
    config.add_cleanup(running.close)
    os.environ["TEST_DATABASE_URL"] = running.enter_context(servers.postgresql())
    os.environ["TEST_REDIS_URL"] = running.enter_context(servers.valkey())


def pytest_collection_modifyitems(items):
    """Begin with the slow ones: at the end, one alone would keep a single process busy."""
    # pytest-randomly has shuffled them before; this sort keeps that order.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    """Let the garbage collector leave out modules and tests, thousands of which stay to the end."""
    gc.freeze()


# Files whose tests share what is expensive to make: one process runs all of such a file.
TOGETHER = ("tests/exercise/test_exercise.py", "tests/test_rename.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand tests out one by one, and those of such a file together."""
    # Not at the top: pytest may run without xdist.
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # noqa: PLC0415

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

        def mark_test_complete(self, node, item_index, duration=0):
            """Forget tests that are done: after each test all that are known are counted."""
            scope = self._split_scope(self.registered_collections[node][item_index])
            super().mark_test_complete(node, item_index, duration)
            if all(self.assigned_work[node][scope].values()):
                del self.assigned_work[node][scope]

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def worker_number(worker_id):
    """Number of the process that runs this test, 0 without xdist."""
    return int(worker_id.removeprefix("gw")) if worker_id != "master" else 0


@pytest.fixture(scope="session")
def migrated_postgresql(worker_number):
    """URL of a migrated PostgreSQL database that only this process uses."""
    server = with_driver(os.environ["TEST_DATABASE_URL"])
    name = f"test_{worker_number}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    url = server.set(database=name).render_as_string(hide_password=False)
    _migrate(url)
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory):
    """File of a migrated SQLite database, to be copied."""
    file = tmp_path_factory.mktemp("template") / "app.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def redis_url(worker_number):
    """URL of a Redis database that only this process uses."""
    return f"{os.environ['TEST_REDIS_URL'].rstrip('/')}/{worker_number}"


@pytest.fixture
def redis(redis_url):
    """Client of an empty Redis database."""
    client = redis_library.Redis.from_url(redis_url)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def sqlite_url(tmp_path, migrated_sqlite):
    """URL of a migrated, empty SQLite database."""
    file = Path(shutil.copy(migrated_sqlite, tmp_path))
    return f"sqlite:///{file}"


@pytest.fixture(scope="session")
def empty_tables(migrated_postgresql):
    """Call that empties that database, by a connection that is kept."""
    engine = create_engine(migrated_postgresql, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    yield partial(_empty, engine)
    engine.dispose()


@pytest.fixture
def postgresql_url(migrated_postgresql, empty_tables):
    """URL of a migrated, empty PostgreSQL database."""
    yield migrated_postgresql
    empty_tables()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request):
    """URL of a migrated, empty database: each test runs on both kinds."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def database(database_url):
    """The database as the service uses it."""
    manager = DatabaseManager(database_url).initialize()
    yield manager
    manager.close()


@pytest.fixture
def empty_sqlite_url(tmp_path):
    """URL of an SQLite database without tables."""
    return f"sqlite:///{tmp_path}/empty.db"


@pytest.fixture
def empty_postgresql_url(worker_number):
    """URL of a PostgreSQL database without tables."""
    server = with_driver(os.environ["TEST_DATABASE_URL"])
    name = f"empty_{worker_number}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def powerless_url(empty_postgresql_url):
    """URL of an empty database for a role that may connect, and create nothing."""
    owner = make_url(empty_postgresql_url)
    role = f"powerless_{owner.database}"
    engine = create_engine(owner, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    yield owner.set(username=role).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP ROLE {role}"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request):
    """URL of a database without tables: each test runs on both kinds."""
    return request.getfixturevalue(f"empty_{request.param}_url")


@pytest.fixture
def empty_database(empty_database_url):
    """A database before its first migration."""
    manager = DatabaseManager(empty_database_url).initialize()
    yield manager
    manager.close()


@pytest.fixture
def config(database_url):
    """A configuration for tests: no Redis, no other services."""
    return AppConfig(
        database_url=database_url, redis_url="", api_key=API_KEY, rate_limit_enabled=False
    )


@pytest.fixture
def services(config):
    """The attached resources; hashing is as cheap as it gets."""
    opened = replace(
        open_backing_services(config), hasher=PasswordHasher(memory_kib=8, time_cost=1)
    )
    yield opened
    opened.close()


@pytest.fixture
def app(config, services):
    """The web application."""
    return make_app(config, services)


@pytest.fixture
def client(app):
    """A caller without credentials."""
    return app.test_client()


@pytest.fixture
def service_client(app):
    """A caller with the API key."""
    caller = app.test_client()
    caller.environ_base["HTTP_X_API_KEY"] = API_KEY
    return caller


def make_app(config, services=None):
    """Build an application whose clients close what they are answered."""
    app = create_app(config, services)
    app.test_client_class = Client
    return app


@pytest.fixture
def serve(tmp_path, sqlite_url):
    """Start the service in processes of its own, on an empty database."""
    # Not at the top: what it imports, imports this file.
    from tests.support.serving import serving  # noqa: PLC0415

    with ExitStack() as running:

        def start(**variables):
            defaults = {"DATABASE_URL": sqlite_url}
            return running.enter_context(serving(tmp_path, **(defaults | variables)))

        yield start


@pytest.fixture(params=PROTOCOLS)
def collector(request):
    """A collector that takes whatever it is sent, by each protocol."""
    with run_collector(request.param) as running:
        yield running


@pytest.fixture
def spans():
    """Record spans in this process: a call returns those that have ended, by their names."""
    exporter = memory()
    exporter.clear()
    yield lambda: {each.name: each for each in exporter.get_finished_spans()}
    exporter.clear()


@pytest.fixture(scope="session")
def crash_server():
    """A PostgreSQL server that tests of this process may freeze, crash and restart."""
    with servers.PostgreSQLServer(durable=True) as server:
        _migrate(server.url)
        yield server


@pytest.fixture
def postgresql_server(crash_server):
    """The same, running, with an empty database."""
    engine = create_engine(with_driver(crash_server.url), isolation_level="AUTOCOMMIT")
    _empty(engine)
    engine.dispose()
    return crash_server


@pytest.fixture
def provider():
    """An e-mail provider that can be told to fail."""
    fake = MailProvider()
    yield fake
    fake.close()


@pytest.fixture
def proxy(postgresql_server):
    """The way to that server, which can be told to break."""
    way = FaultProxy(postgresql_server.port)
    yield way
    way.close()


@pytest.fixture
def deployment(tmp_path, postgresql_server, provider):
    """Web and worker processes on that server and that provider."""
    with Deployment(tmp_path, postgresql_server.url, provider.url) as processes:
        yield processes


def _migrate(url):
    database = DatabaseManager(url).initialize()
    migrations.upgrade(database)
    database.close()


def _empty(engine):
    """Remove all rows; there are few, and TRUNCATE would make a new file for each index."""
    statements = [str(delete(table)) for table in reversed(Base.metadata.sorted_tables)]
    with engine.connect() as connection:
        connection.exec_driver_sql(";".join(statements))


@pytest.fixture
def names():
    """A name server; it answers again at the end, so that no look-up is left behind."""
    server = NameServer()
    yield server
    server.answers.set()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A file with a key and the certificate of HOST, signed with it."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "both.pem")


@pytest.fixture
def unproxied(monkeypatch):
    """The environment, with no proxy but those that a test names."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch
