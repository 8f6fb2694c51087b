"""Settings that libraries would read by themselves, and paths that depend on a folder."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest

from bootstrap import open_database
from chassis.http.auth import public
from chassis.storage.database import with_driver
from config import AppConfig
from tests.conftest import make_app
from tests.support import processes
from tests.support.waiting import eventually


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
