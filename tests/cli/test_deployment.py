"""admin check --deploy: it notices what nobody should deploy, and is content with our manifests."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import deployment
from admin import AdminCommands, cli
from chassis.cli import checks
from chassis.settings.signing_keys import load_key
from config import AppConfig, Environment
from tests.support import kustomize, processes
from tests.support.kustomize import find
from tests.support.ports import HOST, free_port
from tests.support.processes import ROOT
from tests.support.signing import ec_key, signing

SECRET = "s" * 32
SOUND = AppConfig(
    environment=Environment.PRODUCTION,
    database_url="postgresql://app@db/app",
    redis_url="redis://cache",
    api_key=SECRET,
    jwt_secret=SECRET,
    registration="authenticated",
    email_verification="optional",
    trusted_proxy_hops=1,
    pod_name="pod",
    email_service_url="https://mail.example.com",
)
DEVELOPMENT = replace(SOUND, environment=Environment.DEVELOPMENT)
FAULTS = {
    "environment": DEVELOPMENT,
    "default_secret": replace(DEVELOPMENT, jwt_secret="dev-secret-change-me"),
    "short_secret": replace(DEVELOPMENT, jwt_secret="s" * 31),
    "equal_keys": replace(SOUND, **signing(token_signing_key_next=ec_key())),
    "plain_issuer": replace(DEVELOPMENT, token_issuer="http://id.example.com"),
    "long_tokens": replace(SOUND, **signing(access_token_seconds=3601)),
    "secret_holds": replace(SOUND, **signing(token_signing_key_previous="HS256")),
    "no_api_key": replace(DEVELOPMENT, api_key=""),
    "sqlite": replace(DEVELOPMENT, database_url="sqlite:///absent/app.db"),
    "debug": replace(DEVELOPMENT, debug=True),
    "log_level": replace(SOUND, log_level="DEBUG"),
    "no_limits": replace(SOUND, rate_limit_enabled=False),
    "limits_by_process": replace(SOUND, redis_url=""),
    "open_registration": replace(SOUND, registration="open"),
    "unverified_addresses": replace(SOUND, email_verification="off"),
    "personal_data": replace(SOUND, telemetry_pii=True),
    "proxy_hops": replace(SOUND, trusted_proxy_hops=0),
    "plain_email": replace(SOUND, email_service_url="http://mail.example.com"),
    "no_email": replace(SOUND, email_service_url=""),
}
NOTES = {
    *("limits_by_process", "open_registration", "unverified_addresses"),
    *("plain_email", "no_email", "secret_holds"),
}


def missing(config, **variables):
    """Return the findings that did not pass, by their codes."""
    found = deployment.check_deployment(config, variables)
    return {each.check: each for each in found if not each.passed}


def test_a_sound_configuration_has_no_finding():
    assert missing(SOUND) == {}


@pytest.mark.parametrize("code", [each.check for each in deployment.RULES])
def test_a_setting_that_nobody_should_deploy_is_noticed(code):
    found = missing(FAULTS[code])

    assert found.keys() - {"environment"} == {code} - {"environment"}
    assert found[code].is_note is (code in NOTES)
    assert SECRET not in found[code].advice


def test_each_short_secret_is_noticed():
    for config in (
        replace(DEVELOPMENT, api_key="short"),
        replace(DEVELOPMENT, jwt_secret_previous="short"),
    ):
        assert "short_secret" in missing(config)


@pytest.mark.parametrize("name", ["token_signing_key_next", "token_signing_key_previous"])
def test_a_key_that_is_given_twice_is_noticed_however_it_is_written(name):
    key = load_key(ec_key())
    again = key.private.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()

    assert missing(replace(SOUND, **signing(**{name: again}))).keys() == {"equal_keys"}
    assert missing(replace(SOUND, **signing(**{name: ec_key(1)}))) == {}


def test_tokens_that_others_verify_hold_for_an_hour_at_most():
    assert missing(replace(SOUND, **signing(access_token_seconds=3600))) == {}
    assert missing(replace(SOUND, access_token_seconds=3601)) == {}


@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_files_that_everybody_may_read_are_noticed(tmp_path, mode):
    secret, data = tmp_path / "secret", tmp_path / "app.db"
    for file in (secret, data):
        file.touch()
        file.chmod(mode)
    config = replace(DEVELOPMENT, database_url=f"sqlite:///{data}")

    found = missing(config, API_KEY_FILE=str(secret), JWT_SECRET_FILE=str(tmp_path / "absent"))

    named = found["readable_files"].advice if "readable_files" in found else ""
    assert ("API_KEY_FILE" in named, "DATABASE_URL" in named) == ((mode == 0o644),) * 2
    assert "JWT_SECRET_FILE" not in named


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"GUNICORN_CMD_ARGS": "--workers 3", "SSLKEYLOGFILE": "x"}, "GUNICORN_CMD_ARGS, SSLKEY"),
        ({"PYTHONHASHSEED": "0"}, "PYTHONHASHSEED"),
        ({"GUNICORN_CMD_ARGS": "", "FLASK_DEBUG": "1", "PGHOST": "db", "HOME": "/"}, ""),
    ],
)
def test_variables_that_libraries_read_are_noticed_when_they_are_rarely_meant(variables, named):
    found = missing(SOUND, **variables)

    assert (named in found["library_variables"].advice) if named else not found


@pytest.mark.parametrize("signal", ["", "TRACES_", "METRICS_"])
def test_a_collector_that_does_not_listen_is_noticed(monkeypatch, signal):
    variable = f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT"
    dead = f"{HOST}:{free_port()}"
    monkeypatch.setenv(variable, "anything")
    with socket.create_server((HOST, 0)) as server:
        live = f"http://{HOST}:{server.getsockname()[1]}"

        assert deployment.find_deaf(SOUND, {variable: live}) == []
    assert deployment.find_deaf(SOUND, {variable: f"http://{dead}"}) == [dead]


def test_every_finding_is_explained_where_its_link_leads(config, services):
    commands = AdminCommands(config, services)
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")

    codes = {each.check for each in commands.check(is_deploy=True)}

    explained = set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    assert codes | {"link_page", "redis", "external_apis", "read_only"} == explained


@pytest.mark.parametrize(
    ("config", "passed"),
    [
        (SOUND, [False]),
        (replace(SOUND, environment=Environment.STAGING), [False]),
        (replace(SOUND, public_url="https://users.example.com"), [True]),
        (
            replace(SOUND, public_url="https://example.com", account_url="https://example.com/me"),
            [True],
        ),
        (DEVELOPMENT, []),
    ],
)
def test_links_that_lead_nowhere_are_noticed_outside_development(config, passed):
    found = list(deployment.check_link_page(config))

    assert [each.passed for each in found] == passed
    assert all(each.check == "link_page" and not each.is_note for each in found)


def check(**variables):
    result = processes.run(*processes.ADMIN, "check", "--deploy", "--json", variables=variables)
    assert result.returncode in {0, 1}, result.stderr
    found = {each["check"]: each for each in json.loads(result.stdout)}
    return result.returncode, {code for code, each in found.items() if not each["passed"]}


@pytest.fixture
def manifests(postgresql_url, redis_url):
    """The environment that the production manifests give to a web container."""
    objects = kustomize.render(ROOT / "k8s" / "overlays" / "production")
    deployed = find(objects, "Deployment", "cloudnative-app")["spec"]["template"]["spec"]
    (container,) = deployed["containers"]
    variables = {each["name"]: each.get("value", "x") for each in container.get("env", [])}
    for source in container["envFrom"]:
        if name := source.get("configMapRef", {}).get("name"):
            variables |= find(objects, "ConfigMap", name)["data"]
    with socket.create_server((HOST, 0)) as collector:
        yield variables | {
            "DATABASE_URL": postgresql_url,
            "REDIS_URL": redis_url,
            "API_KEY": SECRET,
            "JWT_SECRET": SECRET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{collector.getsockname()[1]}",
        }


def test_our_manifests_pass(manifests):
    assert check(**manifests) == (0, {"open_registration", "unverified_addresses", "no_email"})


def test_manifests_without_a_public_address_fail(manifests):
    status, found = check(**manifests | {"PUBLIC_URL": ""})

    assert status == 1
    assert "link_page" in found


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"OTEL_METRIC_EXPORT_INTERVAL": "soon"}, "telemetry_variables"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{free_port()}"}, "collector"),
    ],
)
def test_telemetry_that_would_not_arrive_fails_the_check(manifests, variables, code):
    status, found = check(**manifests | variables)

    assert status == 1
    assert code in found


def test_an_empty_environment_fails_the_check_and_no_finding_is_without_a_link(tmp_path):
    database = f"sqlite:///{tmp_path}/a.db"
    result = processes.run(
        *processes.ADMIN, "check", "--deploy", variables={"DATABASE_URL": database, "REDIS_URL": ""}
    )

    lines = [line for line in result.stdout.splitlines() if not line.startswith("ok ")]
    assert result.returncode == 1
    assert {line.split()[1].rstrip(":") for line in lines} >= {
        *("default_secret", "sqlite", "no_api_key", "environment", "schema", "open_registration"),
    }
    assert all(re.search(r" \[docs/checks\.md#\w+\]$", line) for line in lines)


def test_without_deploy_the_settings_are_not_judged(config, services):
    result = CliRunner().invoke(cli, ["check", "--json"], obj=AdminCommands(config, services))

    found = {each["check"] for each in json.loads(result.stdout)}
    assert found == {"configuration", "database", "schema", "connections"}


def test_what_has_passed_has_no_advice():
    assert checks.Finding("sqlite", passed=True, advice="change it").document()["advice"] == ""
