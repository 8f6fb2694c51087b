"""Settings that libraries would read by themselves, and paths that depend on a folder."""

from __future__ import annotations

import signal
import sys
from contextlib import closing

import pytest
from sqlalchemy import text

from bootstrap import open_database
from chassis.http.auth import public
from chassis.settings.foreign import DRAMATIQ_NUMBERS, Effect, effect_of
from chassis.storage.database import DatabaseManager, with_driver
from config import AppConfig
from tests.conftest import make_app
from tests.support import processes
from tests.support.factories import make_user
from tests.support.waiting import eventually
from userservice.users import service


@pytest.mark.parametrize("value", ["", "abc", "0"])
def test_the_number_of_processes_is_read_before_gunicorn_reads_it(tmp_path, value):
    variables = {
        "WEB_CONCURRENCY": value,
        "PORT": "none",
        "DATABASE_URL": f"sqlite:///{tmp_path}/a",
    }

    result = processes.run(*processes.APP, variables=variables)

    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert ("WEB_CONCURRENCY must be" in result.stderr) is bool(value)
    assert "PORT must be" in result.stderr


def test_an_empty_number_of_processes_is_the_default(serve):
    service = serve(WEB_CONCURRENCY="")

    assert len(service.workers) == 2


@pytest.mark.parametrize("command", [(), ("worker",), ("admin", "config")], ids=" ".join)
def test_numbers_of_dramatiq_are_checked_before_dramatiq_reads_them(tmp_path, command):
    numbers = {
        "dramatiq_restart_delay": "soon",
        "dramatiq_queue_prefetch": "-1",
        "dramatiq_delay_queue_prefetch": "",
        "dramatiq_worker_timeout": "0",
        "dramatiq_lua_max_stack": "7e3",
    }
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path}/a", "REDIS_URL": "redis://127.0.0.1:1"}

    result = processes.run(
        *processes.APP, *command, variables=numbers | variables | {"TASK_ENGINE": "dramatiq"}
    )

    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert [line.split()[0] for line in lines] == list(numbers)
    assert all("must be a whole number" in line for line in lines)


@pytest.mark.parametrize("name", ["LISTEN_FDS", "LISTEN_PID"])
def test_numbers_of_systemd_are_checked_before_gunicorn_reads_them(tmp_path, name):
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path}/a", name: "three"}

    result = processes.run(*processes.APP, variables=variables)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{name} must be a whole number from 0 to ")
    assert len(result.stderr.splitlines()) == 1


def test_numbers_of_dramatiq_stop_nothing_that_does_not_use_it():
    assert AppConfig.from_env({"dramatiq_worker_timeout": "soon"}).task_engine == "local"


def test_each_number_that_dramatiq_reads_while_it_is_imported_is_checked():
    script = (
        "import os, sys; read = []; real = os.getenv\n"
        "os.getenv = lambda name, *rest: read.append(name) or real(name, *rest)\n"
        "import dramatiq.brokers.redis; print(*read)"
    )

    read = processes.run(sys.executable, "-c", script).stdout.split()

    assert {each for each in read if each.startswith("dramatiq_")} == set(DRAMATIQ_NUMBERS)


def test_variables_of_flask_have_no_effect(config, services, monkeypatch):
    monkeypatch.setenv("FLASK_DEBUG", "1")
    app = make_app(config, services)

    @app.get("/broken")
    @public
    def break_down():
        raise ZeroDivisionError

    answer = app.test_client().get("/broken")

    assert not app.debug
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert answer.json["instance"] == "/broken"


@pytest.mark.parametrize("url", ["sqlite:///app.db", "sqlite:///data/app.db"])
def test_a_relative_file_is_in_the_project_for_every_process(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)

    with closing(open_database(AppConfig(database_url=url))) as database:
        path = database.engine.url.database

    assert path == str(processes.ROOT / url.removeprefix("sqlite:///"))


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///file:app.db?uri=true", "app.db"),
        ("sqlite:///file:data/app.db?mode=ro&uri=true", "data/app.db"),
        ("sqlite:///file:app.db", "file:app.db"),  # without uri=true it is a name like any other
    ],
)
def test_a_relative_uri_of_a_file_is_in_the_project_too(tmp_path, monkeypatch, url, file):
    monkeypatch.chdir(tmp_path)

    with closing(open_database(AppConfig(database_url=url))) as database:
        path = database.engine.url.database

    scheme = "file:" if "uri=true" in url else ""
    assert path == f"{scheme}{processes.ROOT}/{file}"


def test_a_uri_of_a_file_is_opened_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a folder with 100%"
    folder.mkdir()
    url = "sqlite:///file:app.db?uri=true"

    with closing(DatabaseManager(url, folder=folder).initialize()) as database:
        database.ping()

    assert [each.name for each in tmp_path.rglob("app.db*")][:1] == ["app.db"]
    assert (folder / "app.db").exists()


def test_a_relative_file_of_a_secret_is_in_the_project_for_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LICENSE").write_text("of another folder")

    config = AppConfig.from_env({"JWT_SECRET_FILE": "LICENSE"})

    assert config.jwt_secret == (processes.ROOT / "LICENSE").read_text().rstrip("\r\n")


@pytest.mark.parametrize(
    ("given", "setting", "value"),
    [
        ("PGOPTIONS=-c work_mem=5MB", "work_mem", "5MB"),
        ("PGOPTIONS=-c work_mem=5MB", "statement_timeout", "5s"),
        ("PGOPTIONS=-c timezone=Asia/Tokyo", "TimeZone", "Asia/Tokyo"),
        ("PGCLIENTENCODING=SQL_ASCII", "client_encoding", "UTF8"),
        ("PGAPPNAME=other", "application_name", "cloudnative-user-api"),
        ("PGDATESTYLE=German", "DateStyle", "ISO, DMY"),
        ("PGTZ=Asia/Tokyo", "TimeZone", "Asia/Tokyo"),
    ],
)
def test_variables_of_libpq_have_the_effect_that_the_table_says(
    postgresql_url, monkeypatch, given, setting, value
):
    monkeypatch.setenv(*given.split("=", 1))

    with (
        closing(open_database(AppConfig(database_url=postgresql_url))) as database,
        database.connection() as connection,
    ):
        assert connection.scalar(text(f"SHOW {setting}")) == value


@pytest.mark.parametrize("variable", ["PGCLIENTENCODING", "PGTZ", "PGDATESTYLE"])
def test_no_variable_of_libpq_changes_what_is_stored(postgresql_url, monkeypatch, variable):
    values = {"PGCLIENTENCODING": "LATIN1", "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German"}
    monkeypatch.setenv(variable, values[variable])

    with closing(open_database(AppConfig(database_url=postgresql_url))) as database:
        user = make_user(database, name="Łukasz 李")
        found = service.get_user(database, user.id)

    assert found.name == "Łukasz 李"
    assert found.created_at == user.created_at


def test_options_of_the_url_count_instead_of_those_of_the_variable(postgresql_url, monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    url = f"{postgresql_url}?options=-c%20work_mem%3D6MB"

    with (
        closing(open_database(AppConfig(database_url=url))) as database,
        database.connection() as connection,
    ):
        assert connection.scalar(text("SHOW work_mem")) == "6MB"


def test_a_command_adds_nothing_to_the_counts_of_the_web_process(tmp_path, sqlite_url):
    folder = tmp_path / "counts"
    folder.mkdir()
    variables = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "DATABASE_URL": sqlite_url}

    result = processes.run(
        *processes.ADMIN, "export-metrics", "-", variables=variables | {"REDIS_URL": ""}
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "users{" in result.stdout
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("PGOPTIONS", Effect.HONOURED),
        ("PGDATESTYLE", Effect.NONE),
        ("PGSSLMODE", Effect.HONOURED),
        ("FLASK_DEBUG", Effect.NONE),
        ("GUNICORN_CMD_ARGS", Effect.WARNED),
        ("PYTHONHASHSEED", Effect.WARNED),
        ("PYTHONPATH", Effect.HONOURED),
        ("HOME", None),
        ("XPGHOST", None),
    ],
)
def test_of_the_entries_that_fit_a_variable_the_first_counts(name, effect):
    assert effect_of(name) is effect


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:////srv/app.db", "postgresql://app@db/app"]
)
def test_what_is_no_relative_file_stays_as_it_is(url):
    with closing(open_database(AppConfig(database_url=url))) as database:
        assert database.engine.url == with_driver(url)


def test_a_reload_with_a_broken_configuration_keeps_the_workers_and_says_why(serve, tmp_path):
    file = tmp_path / "key"
    file.write_text("a-key-of-the-service")
    service = serve(API_KEY="", API_KEY_FILE=str(file))
    before = service.workers

    file.unlink()
    service.process.send_signal(signal.SIGHUP)
    refused = "Reload refused, the old workers go on"
    eventually(lambda: any(line["message"].startswith(refused) for line in service.lines))

    assert service.client.get("/health").status_code == 200
    assert service.workers == before
    (line,) = [each for each in service.lines if each["message"].startswith(refused)]
    assert "API_KEY_FILE must name a readable file" in line["message"]
