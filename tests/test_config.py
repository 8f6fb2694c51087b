from __future__ import annotations

import dataclasses
import os
import sys
import unicodedata
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from bootstrap import make_links, welcome
from chassis.errors import Undeliverable
from chassis.settings.variables import ConfigError
from chassis.storage.database import DatabaseManager
from chassis.storage.postgresql import connect_arguments
from config import AppConfig, Environment
from tests.support import processes
from userservice.settings import ServiceSettings

SECRET = "s" * 32
PRODUCTION = {
    "ENVIRONMENT": "production",
    "API_KEY": "key",
    "JWT_SECRET": SECRET,
    "DATABASE_URL": "postgresql://app:pw@db/app",
}
DEFAULTS = {
    "ENVIRONMENT": Environment.DEVELOPMENT,
    "DEBUG": False,
    "PORT": 8080,
    "BIND_ADDRESS": "",
    "DATABASE_URL": "sqlite:///app.db",
    "DATABASE_POOL_SIZE": 10,
    "DATABASE_MAX_OVERFLOW": 20,
    "REDIS_URL": "redis://localhost:6379",
    "REDIS_MAX_CONNECTIONS": 20,
    "API_KEY": "",
    "JWT_SECRET": "dev-secret-change-me",
    "JWT_SECRET_PREVIOUS": "",
    "EMAIL_SERVICE_URL": "",
    "PAYMENT_SERVICE_URL": "",
    "READY_REQUIRES": frozenset({"database"}),
    "WORKER_CONCURRENCY": 4,
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "auto",
    "APP_VERSION": "unknown",
    "BUILD_ID": "unknown",
    "POD_NAME": "",
    "POD_NAMESPACE": "",
    "NODE_NAME": "",
}
SECRETS = (
    "DATABASE_URL",
    "REDIS_URL",
    "API_KEY",
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "EMAIL_SERVICE_URL",
    "PAYMENT_SERVICE_URL",
)


def read(**variables):
    return AppConfig.from_env(variables)


def value(variable, text):
    return getattr(read(**{variable: text}), variable.lower())


def problems(variables):
    with pytest.raises(ConfigError) as caught:
        AppConfig.from_env(variables)
    return caught.value.problems


@pytest.mark.parametrize(("variable", "default"), DEFAULTS.items())
def test_a_variable_that_is_absent_has_its_documented_default(variable, default):
    config = read()

    assert getattr(config, variable.lower()) == default
    assert type(getattr(config, variable.lower())) is type(default)


def test_every_variable_is_read_under_the_capital_name_of_its_field():
    config = read()

    assert set(config.masked()) == {each.name.upper() for each in dataclasses.fields(config)}
    assert set(config.masked()) >= set(DEFAULTS)


def test_settings_of_processes_come_before_those_that_resources_declare():
    shown = list(AppConfig().masked())

    assert shown[0] == "ENVIRONMENT"
    assert shown[-len(dataclasses.fields(ServiceSettings)) :] == [
        each.name.upper()
        for declared in ServiceSettings.__bases__
        for each in dataclasses.fields(declared)
    ]


def test_settings_that_are_durations_say_so_in_their_name():
    timeouts = [each.name for each in dataclasses.fields(AppConfig) if "timeout" in each.name]

    assert timeouts
    assert all(name.endswith("_seconds") for name in timeouts)


@pytest.mark.parametrize("variable", sorted(DEFAULTS))
def test_a_variable_that_is_empty_counts_as_absent_unless_empty_means_none(variable):
    none = {"REDIS_URL": "", "READY_REQUIRES": frozenset()}

    assert value(variable, "") == none.get(variable, DEFAULTS[variable])


def test_the_environment_is_read_when_asked_for_and_not_at_import(monkeypatch):
    monkeypatch.setenv("PORT", "9999")

    assert AppConfig.from_env().port == 9999
    assert AppConfig().port == 8080


def test_importing_the_configuration_works_in_an_environment_that_it_would_refuse():
    result = processes.run(sys.executable, "-c", "import config", variables={"PORT": "none"})

    assert (result.returncode, result.stderr) == (0, "")


def test_values_may_be_given_typed_or_as_text():
    typed = AppConfig(port=9000, debug=True, environment=Environment.STAGING)

    text = read(PORT="9000", DEBUG="true", ENVIRONMENT="staging")

    assert typed == text


def test_a_configuration_cannot_be_changed():
    config = read()

    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1


def test_a_refused_configuration_is_a_value_error():
    with pytest.raises(ValueError, match="PORT must be a whole number"):
        read(PORT="0")


def test_variables_of_other_programs_are_ignored():
    assert read(PATH="/bin", PORT_NUMBER="x", OTEL_SDK_DISABLED="true") == read()


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes", "Yes", "on", "ON"])
def test_a_boolean_may_be_spelt_in_the_usual_ways_of_saying_true(text):
    assert value("DEBUG", text) is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "NO", "off", "Off"])
def test_a_boolean_may_be_spelt_in_the_usual_ways_of_saying_false(text):
    assert value("DEBUG", text) is False


@pytest.mark.parametrize("text", ["2", "y", "enabled", "truee", "-1", "none"])
def test_a_boolean_that_is_spelt_otherwise_is_refused(text):
    assert problems({"DEBUG": text}) == [
        f"DEBUG must be true, false, 1, 0, yes, no, on or off, not {text!r}"
    ]


@pytest.mark.parametrize("text", ["development", "Staging", "PRODUCTION"])
def test_an_environment_is_recognised_in_any_case(text):
    assert AppConfig.from_env(PRODUCTION | {"ENVIRONMENT": text}).environment == text.lower()


@pytest.mark.parametrize("text", ["prod", "dev", "stage", "test", "production2"])
def test_short_forms_of_an_environment_are_refused(text):
    assert problems({"ENVIRONMENT": text}) == [
        f"ENVIRONMENT must be development, staging or production, not {text!r}"
    ]


@pytest.mark.parametrize("text", ["debug", "Info", "WARNING", "error", "cRITICAL"])
def test_a_log_level_is_recognised_in_any_case(text):
    assert value("LOG_LEVEL", text) == text.upper()


def test_a_log_level_that_does_not_exist_is_refused():
    assert problems({"LOG_LEVEL": "loud"}) == [
        "LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not 'loud'"
    ]


def test_a_log_format_is_json_or_text_or_what_suits_the_reader():
    assert value("LOG_FORMAT", "TEXT") == "text"
    assert problems({"LOG_FORMAT": "xml"}) == ["LOG_FORMAT must be json, text or auto, not 'xml'"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "192.0.2.1"])
def test_the_web_process_listens_on_an_address_of_ip(address):
    assert value("BIND_ADDRESS", address) == address


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:80", "[::1]", "1.2.3"])
def test_a_name_is_no_address_to_listen_on(address):
    expected = f"BIND_ADDRESS must be an IP address, not {address!r}"
    assert problems({"BIND_ADDRESS": address}) == [expected]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("development-key", "key development-key"),
        ("a-real-secret", "key of API_KEY"),
        ("", "no API_KEY is set"),
    ],
)
def test_a_developer_is_welcomed_without_a_secret(key, told):
    expected = f"http://localhost:9000/docs  ({told}; Ctrl-C ends)"

    assert welcome(AppConfig(port=9000, api_key=key)).strip() == expected


@pytest.mark.parametrize(
    ("variable", "low", "high"),
    [
        ("PORT", 1, 65535),
        ("DATABASE_POOL_SIZE", 1, 1000),
        ("DATABASE_MAX_OVERFLOW", 0, 1000),
        ("DATABASE_CONNECT_TIMEOUT_SECONDS", 1, 60),
        ("REDIS_MAX_CONNECTIONS", 1, 10000),
        ("WEB_CONCURRENCY", 1, 256),
        ("WEB_THREADS", 1, 256),
        ("WORKER_CONCURRENCY", 1, 256),
    ],
)
def test_a_number_has_a_range_that_its_refusal_names(variable, low, high):
    expected = f"{variable} must be a whole number from {low} to {high}"

    assert [value(variable, str(low)), value(variable, str(high))] == [low, high]
    assert problems({variable: str(low - 1)}) == [f"{expected}, not '{low - 1}'"]
    assert problems({variable: str(high + 1)}) == [f"{expected}, not '{high + 1}'"]


@pytest.mark.parametrize("text", ["8080 ", "8_0", "+80", "80.0", "0x50", "٨٠", "1e3", "9" * 5000])
def test_a_number_that_is_not_plain_digits_is_refused(text):
    assert problems({"PORT": text}) == [
        f"PORT must be a whole number from 1 to 65535, not {text!r}"
    ]


def test_a_duration_may_have_a_fraction():
    assert value("READY_TIMEOUT_SECONDS", "0.25") == 0.25


@pytest.mark.parametrize("text", ["0", "nan", "inf", "-1", "1s", "1e1", ".5", "31"])
def test_a_duration_out_of_its_range_is_refused(text):
    assert problems({"READY_TIMEOUT_SECONDS": text}) == [
        f"READY_TIMEOUT_SECONDS must be seconds from 0.05 to 30, not {text!r}"
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("database,redis,external_apis", {"database", "redis", "external_apis"}),
        (" Redis , DATABASE,", {"redis", "database"}),
        (",", set()),
    ],
)
def test_required_checks_are_a_comma_separated_list(text, names):
    assert value("READY_REQUIRES", text) == names


def test_a_required_check_that_does_not_exist_is_refused():
    (problem,) = problems({"READY_REQUIRES": "database,disk"})

    assert problem.endswith("out of database, redis, external_apis, not 'database,disk'")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE_URL", "postgresql://u:p@h:5432/d?sslmode=require"),
        ("DATABASE_URL", "postgres://h/d"),
        ("DATABASE_URL", "postgresql:///d?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql+psycopg2://h/d"),
        ("DATABASE_URL", "postgresql://[::1]:5432/d"),
        ("DATABASE_URL", "sqlite:////tmp/a folder/app.db"),
        ("DATABASE_URL", "sqlite://"),
        ("REDIS_URL", "redis://:pw@h:6379/0"),
        ("REDIS_URL", "rediss://h"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("EMAIL_SERVICE_URL", "https://mail.example.com/send"),
        ("PAYMENT_SERVICE_URL", "http://10.0.0.1:8080"),
    ],
)
def test_a_url_is_taken_as_it_stands(variable, text):
    assert value(variable, text) == text


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "app.db"),
        ("DATABASE_URL", "sqlite:app.db"),
        ("DATABASE_URL", "sqlite://app.db"),
        ("DATABASE_URL", "postgresql:d"),
        ("DATABASE_URL", "postgresql://h:port/d"),
        ("DATABASE_URL", "postgresql://h:/d"),
        ("DATABASE_URL", "postgresql://h:99999/d"),
        ("DATABASE_URL", "postgresql://h:0/d"),
        ("DATABASE_URL", "Postgresql://h/d"),
        ("DATABASE_URL", " postgresql://h/d"),
        ("DATABASE_URL", "postgresql://h/\nd"),
        ("DATABASE_URL", "postgresql://[::1/d"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://:pw@"),
        ("REDIS_URL", "http://h"),
        ("EMAIL_SERVICE_URL", "mail.example.com"),
        ("EMAIL_SERVICE_URL", "https://:443"),
        ("EMAIL_SERVICE_URL", "smtps://h:0"),
        ("EMAIL_SERVICE_URL", "ftp://h"),
        ("PAYMENT_SERVICE_URL", "http://h\x00/"),
    ],
)
def test_a_url_that_could_not_be_used_is_refused_without_showing_it(variable, text):
    (problem,) = problems({variable: text})

    assert problem.startswith(f"{variable} must be a URL that begins with ")
    assert text not in problem


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (
            "DATABASE_URL",
            "postgresql://h/d?sslmode=verify-full&options=-c%20a%3Db&keepalives_idle=7",
        ),
        ("DATABASE_URL", "postgresql://app@/d?host=h1:5432&host=h2:5432&target_session_attrs=any"),
        ("DATABASE_URL", "sqlite:///x.db?timeout=5"),
        ("DATABASE_URL", "sqlite:///file:x.db?mode=ro&uri=true"),
        ("REDIS_URL", "redis://h/0?health_check_interval=10&protocol=2"),
        ("REDIS_URL", "rediss://h?ssl_cert_reqs=required"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("EMAIL_SERVICE_URL", "https://h/send?anything=goes"),
    ],
)
def test_the_options_of_a_url_that_its_library_takes_are_taken(variable, text):
    assert value(variable, text) == text


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE_URL", "postgresql://u:pw@h/d?bogus_3907=1"),
        ("DATABASE_URL", "postgresql://h/d?sslmode=bogus_3907"),
        ("DATABASE_URL", "postgresql+psycopg2://h/d?connect_timeout=-3907"),
        ("DATABASE_URL", "postgres://h/d?keepalives_idle=x3907"),
        ("DATABASE_URL", "postgresql://u:pa?ss_3907=1@h/d"),  # a question mark that is not escaped
        ("DATABASE_URL", "sqlite:///x.db?bogus_3907=1"),
        ("DATABASE_URL", "sqlite:///x.db?timeout=x3907"),
        ("REDIS_URL", "redis://h?bogus_3907=1"),
        ("REDIS_URL", "redis://h?socket_timeout=x3907"),
        ("REDIS_URL", "redis://h?socket_timeout=-3907"),
        ("REDIS_URL", "redis://h?protocol=3907"),
        ("REDIS_URL", "rediss://h?ssl_cert_reqs=x3907"),
        ("REDIS_URL", "unix:///x?db=x3907"),
    ],
)
def test_an_option_that_would_fail_at_the_first_use_is_refused_without_showing_it(variable, text):
    (problem,) = problems({variable: text})

    assert problem.startswith(variable)
    assert "3907" not in problem


def test_a_log_in_that_ends_before_its_access_token_is_refused():
    assert problems({"ACCESS_TOKEN_SECONDS": "3600", "REFRESH_TOKEN_SECONDS": "3600"}) == [
        "REFRESH_TOKEN_SECONDS must be longer than ACCESS_TOKEN_SECONDS"
    ]


MAIL_SERVER = {"EMAIL_FROM": "no-reply@example.com"}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("no-reply@example.com", "no-reply@example.com"),
        (" Example <no-reply@example.com> ", "Example <no-reply@example.com>"),
        (
            '"Example & Söhne, Ltd" <no-reply@bücher.example>',
            "Example & Söhne, Ltd <no-reply@xn--bcher-kva.example>",
        ),
    ],
)
def test_a_mailbox_is_an_address_with_or_without_a_name(typed, kept):
    assert value("EMAIL_FROM", typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        *("example.com", "a@b@c", "Example no-reply@example.com", "<no-reply@example.com", "a@-b"),
        *("a@example.com\r\nBcc: b@example.com", "A\nB <a@example.com>", "A <a@e.com>, b@e.com"),
        *("jörg@example.com", "a@localhost", "A <b> <a@example.com>"),
        "=?utf-8?q?=0D=0ABcc?=@example.com",
    ],
)
def test_a_mailbox_that_a_server_would_refuse_is_refused_in_one_line(typed):
    (problem,) = problems({"EMAIL_FROM": typed})

    assert problem.startswith("EMAIL_FROM must be an address such as no-reply@example.com")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("variables", "refusal"),
    [
        (
            {"EMAIL_SERVICE_URL": "smtps://h"},
            "EMAIL_FROM is required with an EMAIL_SERVICE_URL of SMTP",
        ),
        (
            {"EMAIL_SERVICE_URL": "smtp://u:p@h", **MAIL_SERVER},
            "EMAIL_SERVICE_URL with a password must begin with smtps:// or smtp+starttls://",
        ),
        (
            {"EMAIL_SERVICE_URL": "smtps://h", "EMAIL_SERVICE_TOKEN": "t", **MAIL_SERVER},
            "EMAIL_SERVICE_TOKEN needs an EMAIL_SERVICE_URL of HTTP, without credentials",
        ),
        (
            {"EMAIL_SERVICE_URL": "https://u:p@h", "EMAIL_SERVICE_TOKEN": "t"},
            "EMAIL_SERVICE_TOKEN needs an EMAIL_SERVICE_URL of HTTP, without credentials",
        ),
        (
            {"EMAIL_ON_TERMINAL": "true", "ENVIRONMENT": "staging"},
            "EMAIL_ON_TERMINAL is for ENVIRONMENT=development",
        ),
        (
            PRODUCTION | {"EMAIL_SERVICE_URL": "smtp://h", **MAIL_SERVER},
            "EMAIL_SERVICE_URL must begin with smtps:// or smtp+starttls:// in production",
        ),
        (
            PRODUCTION | {"EMAIL_SERVICE_URL": "http://h", "EMAIL_SERVICE_TOKEN": "t"},
            "EMAIL_SERVICE_URL must begin with https:// in production, with EMAIL_SERVICE_TOKEN",
        ),
    ],
)
def test_settings_of_emails_that_do_not_go_together_are_refused(variables, refusal):
    assert problems(variables) == [refusal]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("smtp://mail:1025", "smtp://mail:1025"),
        ("smtps://apikey:p%40ss@mail.example", "smtps://apikey:***@mail.example"),
        ("smtps://u:p@w@mail.example", "smtps://u:***@mail.example"),
        ("smtps://a@b.example:p@mail.example", "smtps://***@mail.example"),
        (
            "smtp+starttls://a%40b.example:p@[::1]:25/",
            "smtp+starttls://a%40b.example:***@[::1]:25/",
        ),
    ],
)
def test_the_url_of_a_mail_server_is_taken_as_it_stands_and_its_password_hidden(url, shown):
    config = AppConfig.from_env({"EMAIL_SERVICE_URL": url, **MAIL_SERVER})

    assert config.email_service_url == url
    assert config.masked()["EMAIL_SERVICE_URL"] == shown


@pytest.mark.parametrize(
    "url",
    [
        *("smtps://me:3907@", "smtps://me@mail.example", "smtps://:3907@mail.example"),
        *("smtps://me:p/3907@mail.example", "smtps://me:1/3907@mail.example"),
        *("smtps://me:1#3907@mail.example", "smtps://mail.example?tls=3907"),
        *("smtps://me:3907%00@mail.example", "smtps://me:3907%FF@mail.example"),
        *("smtps://me:3907ä@mail.example", "smtp+tls://mail.example", "smtps://@mail.example"),
    ],
)
def test_the_url_of_a_mail_server_that_could_not_be_used_is_refused_without_showing_it(url):
    (problem,) = problems({"EMAIL_SERVICE_URL": url, **MAIL_SERVER})

    assert problem.startswith("EMAIL_SERVICE_URL must ")
    assert "3907" not in problem


@pytest.mark.parametrize(
    "variables",
    [
        {"EMAIL_SERVICE_URL": "http://h", "EMAIL_SERVICE_TOKEN": "t"},
        {"EMAIL_SERVICE_URL": "smtp://h", **MAIL_SERVER},
        PRODUCTION | {"EMAIL_SERVICE_URL": "https://h", "EMAIL_SERVICE_TOKEN": "t"},
        PRODUCTION | {"EMAIL_SERVICE_URL": "http://u:p@h"},
        PRODUCTION | {"EMAIL_SERVICE_URL": "smtps://u:p@h", **MAIL_SERVER},
        PRODUCTION | {"EMAIL_SERVICE_URL": "smtp+starttls://u:p@h", **MAIL_SERVER},
    ],
)
def test_settings_of_emails_that_go_together_are_taken(variables):
    AppConfig.from_env(variables)


def test_a_claim_that_ends_before_its_email_may_is_refused():
    assert problems({"EMAIL_TIMEOUT_SECONDS": "10", "OUTBOX_LEASE_SECONDS": "10"}) == [
        "OUTBOX_LEASE_SECONDS must be longer than EMAIL_TIMEOUT_SECONDS"
    ]
    assert AppConfig(email_timeout_seconds=10, outbox_lease_seconds=11).outbox_lease_seconds == 11


def test_connections_are_kept_for_longer_than_load_balancers_do():
    usual_seconds = 60

    assert AppConfig().keepalive_seconds > usual_seconds


def test_the_shortest_limit_of_a_statement_is_not_none(monkeypatch):
    monkeypatch.delenv("PGOPTIONS", raising=False)
    nothing = timedelta(seconds=0)
    found = [
        connect_arguments(
            make_url("postgresql://h/d"),
            connect_timeout=nothing,
            statement_timeout=limit,
            application_name="",
        )["options"]
        for limit in (nothing, timedelta(seconds=0.0004))
    ]

    assert ["statement_timeout=0 " in each for each in found] == [True, False]


@pytest.mark.parametrize("each", dataclasses.fields(AppConfig), ids=lambda each: each.name)
def test_an_empty_value_is_one_that_is_not_set_or_the_documentation_names_it(each):
    named = {"REDIS_URL", "READY_REQUIRES"}

    empty = AppConfig.from_env({each.name.upper(): ""})

    is_default = getattr(empty, each.name) == getattr(AppConfig(), each.name)
    assert is_default is (each.name.upper() not in named)


@pytest.mark.parametrize(
    "text", ["sqlite:///x.db", "sqlite://", "postgres://u:1#2@h:1/d", "postgresql://"]
)
def test_a_database_url_that_is_taken_is_one_that_the_database_takes(text):
    database = DatabaseManager(value("DATABASE_URL", text))

    assert database.initialize() is database


@pytest.mark.parametrize("variable", ["JWT_SECRET", "APP_VERSION"])
def test_bytes_that_are_no_text_are_refused(variable):
    text = os.fsdecode(b"\xff" * 40)

    (problem,) = problems({variable: text})

    assert problem.startswith(f"{variable} must be text in UTF-8")
    assert problem.isprintable()


def test_production_starts_when_nothing_is_missing():
    config = AppConfig.from_env(PRODUCTION)

    assert config.environment is Environment.PRODUCTION


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"API_KEY": ""}, "API_KEY is required in production"),
        ({"JWT_SECRET": ""}, "JWT_SECRET must be changed in production"),
        ({"JWT_SECRET": "dev-secret-change-me"}, "JWT_SECRET must be changed in production"),
        ({"JWT_SECRET": "s" * 31}, "JWT_SECRET must have at least 32 bytes in production"),
        (
            {"JWT_SECRET_PREVIOUS": "s" * 31},
            "JWT_SECRET_PREVIOUS must have at least 32 bytes in production",
        ),
        ({"DEBUG": "yes"}, "DEBUG must be off in production"),
        (
            {"DATABASE_URL": "sqlite:///app.db"},
            "DATABASE_URL must name a PostgreSQL database in production",
        ),
        ({"DATABASE_URL": ""}, "DATABASE_URL must name a PostgreSQL database in production"),
    ],
)
def test_production_refuses_what_development_allows(change, problem):
    development = PRODUCTION | change | {"ENVIRONMENT": "development"}

    assert problems(PRODUCTION | change) == [problem]
    assert AppConfig.from_env(development).environment is Environment.DEVELOPMENT


def test_a_secret_is_measured_in_bytes():
    assert AppConfig.from_env(PRODUCTION | {"JWT_SECRET": "é" * 16}).jwt_secret == "é" * 16


def test_staging_is_as_lenient_as_development():
    assert read(ENVIRONMENT="staging", DEBUG="1").debug


def test_production_with_an_otherwise_empty_environment_names_everything_that_it_misses():
    assert problems({"ENVIRONMENT": "production"}) == [
        "API_KEY is required in production",
        "JWT_SECRET must be changed in production",
        "DATABASE_URL must name a PostgreSQL database in production",
    ]


def test_all_problems_are_reported_together(tmp_path):
    variables = {
        "ENVIRONMENT": "production",
        "PORT": "http",
        "LOG_LEVEL": "loud",
        "DEBUG": "on",
        "DATABASE_URL": "mysql://h/d",
        "API_KEY_FILE": str(tmp_path / "absent"),
    }

    found = problems(variables)

    assert {problem.split()[0] for problem in found} == {
        "API_KEY_FILE",
        "API_KEY",
        "PORT",
        "LOG_LEVEL",
        "DEBUG",
        "DATABASE_URL",
        "JWT_SECRET",
    }


def test_the_message_of_a_refusal_holds_one_problem_a_line():
    with pytest.raises(ConfigError) as caught:
        read(PORT="x\ny", LOG_FORMAT="z")

    assert str(caught.value).splitlines() == caught.value.problems
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("variable", SECRETS)
def test_every_secret_can_come_from_a_file(variable, tmp_path):
    text = "https://u:p@h/" if "SERVICE" in variable else "redis://u:p@h/"
    text = {"DATABASE_URL": "postgresql://u:p@h/d", "REDIS_URL": text}.get(variable, text)
    file = tmp_path / "secret"
    file.write_text(text)

    config = read(**{f"{variable}_FILE": str(file)})

    assert getattr(config, variable.lower()) == text


def test_what_is_no_secret_cannot_come_from_a_file(tmp_path):
    file = tmp_path / "port"
    file.write_text("9000")

    assert read(PORT_FILE=str(file)).port == 8080


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_the_line_ends_behind_a_secret_in_a_file_do_not_belong_to_it(tmp_path, end):
    file = tmp_path / "secret"
    file.write_bytes(f" a b\t{end}".encode())

    assert read(JWT_SECRET_FILE=str(file)).jwt_secret == " a b\t"


def test_a_secret_that_is_set_twice_is_refused(tmp_path):
    file = tmp_path / "secret"
    file.write_text("from the file")

    assert problems({"API_KEY": "direct", "API_KEY_FILE": str(file)}) == [
        "API_KEY and API_KEY_FILE are both set; keep one of them"
    ]


@pytest.mark.parametrize("variables", [{"API_KEY": ""}, {}])
def test_an_empty_variable_leaves_the_word_to_the_file(tmp_path, variables):
    file = tmp_path / "secret"
    file.write_text("from-the-file")

    config = AppConfig.from_env(variables | {"API_KEY_FILE": str(file)})

    assert config.api_key == "from-the-file"


def test_an_empty_file_name_counts_as_absent():
    assert read(API_KEY="direct", API_KEY_FILE="").api_key == "direct"


def test_an_empty_file_counts_as_an_empty_variable(tmp_path):
    file = tmp_path / "secret"
    file.write_text("\n")

    assert read(JWT_SECRET_FILE=str(file)).jwt_secret == "dev-secret-change-me"
    assert problems(
        {k: v for k, v in PRODUCTION.items() if k != "API_KEY"} | {"API_KEY_FILE": str(file)}
    ) == ["API_KEY is required in production"]


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    absent = tmp_path / "absent"

    assert problems({"API_KEY_FILE": str(absent)}) == [
        f"API_KEY_FILE must name a readable file: {absent}: No such file or directory"
    ]
    assert problems({"API_KEY_FILE": str(tmp_path)}) == [
        f"API_KEY_FILE must name a readable file: {tmp_path}: Is a directory"
    ]


def test_a_file_that_is_no_text_is_refused_without_showing_it(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(b"hidden\xff")

    assert problems({"API_KEY_FILE": str(file)}) == [
        f"API_KEY_FILE must name a readable file: {file}: not UTF-8 text"
    ]


# A password as people write it into a URL without escaping; such that the URL is still one,
# which it is not with a character that only looks like a delimiter, such as a fullwidth one.
passwords = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="/?#[]").filter(
        lambda each: each in "@:" or not set(unicodedata.normalize("NFKC", each)) & set("/?#@:")
    ),
    min_size=5,
).filter(lambda text: not text.startswith("***"))


def taken_with(password):
    """Return all places of the configuration that can hold a password, holding this one."""
    escaped = password.replace("@", "%40")
    return {
        "database_url": f"postgresql://app:{escaped}@db:5432/app?sslpassword=x{password}",
        "redis_url": f"redis://:{password}@cache:6379/0",
        "email_service_url": f"https://u:{password}@mail/send?api_key={password}",
        "payment_service_url": f"http://pay/?a=b&token={password}&c=d",
        "api_key": password if password.isascii() else "",  # others no header can hold
        "jwt_secret": password,
        "jwt_secret_previous": password,
    }


@pytest.mark.parametrize("text", ["s@cret", "00@:0", "@"])
def test_a_database_whose_password_would_be_taken_for_a_host_is_refused(text):
    assert problems({"DATABASE_URL": f"postgresql://app:{text}@db:5432/app"}) == [
        "DATABASE_URL has an @ in its name or password; write it as %40"
    ]


@given(passwords)
def test_a_secret_never_shows_whatever_its_characters(password):
    hidden = f"xq{password.replace('&', '')}qx"

    config = AppConfig(**taken_with(hidden))

    assert hidden not in repr(config)
    assert hidden not in "".join(config.masked().values())
    assert repr(hidden)[1:-1] not in repr(config)


@given(passwords)
def test_a_part_of_a_secret_does_not_show_either(password):
    hidden = f"{password}XYZZY"

    config = AppConfig(**taken_with(hidden.replace("&", "@")))

    assert "XYZZY" not in repr(config)


@given(st.text(max_size=20))
def test_a_refusal_never_shows_a_secret(text):
    hidden = f"XYZZY{text}XYZZY"

    found = problems(
        {
            "DATABASE_URL": f"mysql://u:{hidden}@h/d",
            "REDIS_URL": hidden,
            "EMAIL_SERVICE_URL": f"ftp://{hidden}",
            "API_KEY": f"\udcff{hidden}",
        }
    )

    assert len(found) == 4
    assert "XYZZY" not in "".join(found)


@pytest.mark.parametrize(
    ("variable", "text", "shown"),
    [
        ("DATABASE_URL", "postgresql://app:pw@db:5432/app", "postgresql://app:***@db:5432/app"),
        ("DATABASE_URL", "postgresql://app@db/app", "postgresql://app@db/app"),
        ("DATABASE_URL", "postgresql://db/a?password=p#w", "postgresql://db/a?password=***"),
        ("DATABASE_URL", "postgresql://u:p%40w@db/app", "postgresql://u:***@db/app"),
        ("DATABASE_URL", "sqlite:///app.db", "sqlite:///app.db"),
        ("REDIS_URL", "redis://:pw@cache/0", "redis://:***@cache/0"),
        ("REDIS_URL", "redis://:p@w@cache/0", "redis://:***@cache/0"),
        ("REDIS_URL", "rediss://pw@cache/0", "rediss://***@cache/0"),
        ("REDIS_URL", "unix://pw@/run/redis.sock", "unix://***@/run/redis.sock"),
        ("EMAIL_SERVICE_URL", "https://to@ken@mail/x", "https://***@mail/x"),
        ("EMAIL_SERVICE_URL", "https://u:p@s@w@mail/x", "https://u:***@mail/x"),
        ("EMAIL_SERVICE_URL", "https://a@b.example:pw@mail/x", "https://***@mail/x"),
        ("REDIS_URL", "redis://a@b:p@w@cache/0", "redis://***@cache/0"),
        ("EMAIL_SERVICE_URL", "https://u:p@mail/x?key=p@w", "https://u:***@mail/x?key=***"),
        ("EMAIL_SERVICE_URL", "https://mail/x?ApiKey=pw&a=b", "https://mail/x?ApiKey=***&a=b"),
        ("API_KEY", "pw", "***"),
        ("JWT_SECRET", "looks://like-a-url", "***"),
        ("API_KEY", "", ""),
        ("PORT", "9000", "9000"),
        ("READY_REQUIRES", "redis,database", "database,redis"),
    ],
)
def test_everything_but_the_secret_itself_shows(variable, text, shown):
    assert read(**{variable: text}).masked()[variable] == shown


BAD = {
    "ENVIRONMENT": "prod",
    "PORT": "http",
    "LOG_LEVEL": "loud",
    "DATABASE_URL": "mysql://u:XYZZY@h/d",
    "API_KEY_FILE": "/nowhere/key",
}


@pytest.mark.parametrize(
    "command",
    [
        processes.APP,
        (*processes.APP, "--debug"),
        processes.GUNICORN,
        (*processes.ADMIN, "migrate"),
    ],
    ids=["web", "debug", "gunicorn", "admin"],
)
def test_a_process_with_a_bad_environment_names_every_problem_and_exits_with_status_2(command):
    result = processes.run(*command, variables=BAD)

    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert {line.split()[0] for line in lines} == set(BAD)
    assert "XYZZY" not in result.stderr


@pytest.mark.parametrize("variable", ["API_KEY", "JWT_SECRET", "DATABASE_URL"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_end_behind_a_secret_is_dropped_as_in_a_file(variable, end):
    value = "postgresql://app@db/app"

    config = AppConfig.from_env({variable: value + end})

    assert getattr(config, variable.lower()) == value


@pytest.mark.parametrize("key", ["a key", "key ", "schl\u00fcssel", "a\nb", "\x7f", "\udcff"])
def test_a_key_that_no_caller_can_send_is_refused_by_name(key):
    with pytest.raises(ConfigError) as caught:
        AppConfig.from_env({"API_KEY": key})

    (problem,) = caught.value.problems
    assert problem.startswith("API_KEY must be letters, digits and signs of ASCII")
    assert key not in problem


@pytest.mark.parametrize(
    ("variables", "refusal"),
    [
        (
            {"PUBLIC_URL": "https://a.example?b"},
            "PUBLIC_URL and ACCOUNT_URL must have no query, fragment or credentials",
        ),
        (
            {"ACCOUNT_URL": "https://a.example/#b", "CORS_ORIGINS": "https://a.example"},
            "PUBLIC_URL and ACCOUNT_URL must have no query, fragment or credentials",
        ),
        (
            {"ACCOUNT_URL": "https://b.example/c", "PUBLIC_URL": "https://a.example"},
            "ACCOUNT_URL must have the origin of PUBLIC_URL, or one in CORS_ORIGINS",
        ),
        (
            {"ACCOUNT_URL": "https://b.example/c"},
            "ACCOUNT_URL must have the origin of PUBLIC_URL, or one in CORS_ORIGINS",
        ),
        (
            PRODUCTION | {"PUBLIC_URL": "http://a.example"},
            "PUBLIC_URL must begin with https:// in production",
        ),
        (
            PRODUCTION | {"ACCOUNT_URL": "http://a.example/b", "CORS_ORIGINS": "http://a.example"},
            "ACCOUNT_URL must begin with https:// in production",
        ),
    ],
)
def test_pages_that_links_cannot_lead_to_are_refused(variables, refusal):
    assert problems(variables) == [refusal]


@pytest.mark.parametrize(
    ("variables", "page"),
    [
        ({}, "http://localhost:8080/account"),
        ({"PORT": "9"}, "http://localhost:9/account"),
        ({"ENVIRONMENT": "staging"}, ""),
        ({"PUBLIC_URL": "https://a.example/prefix/"}, "https://a.example/prefix/account"),
        (
            {"PUBLIC_URL": "https://a.example", "ACCOUNT_URL": "https://A.example:443/me"},
            "https://A.example:443/me",
        ),
        (
            {"ACCOUNT_URL": "https://b.example/me", "CORS_ORIGINS": "https://b.example"},
            "https://b.example/me",
        ),
    ],
)
def test_links_lead_to_the_page_of_the_service_or_to_another(variables, page):
    config = AppConfig.from_env(variables)

    link = make_links(config).make("reset", UUID(int=1), made_at=datetime.now(UTC))
    if page:
        assert make_links(config).address(link) == f"{page}#{link}"
    else:
        with pytest.raises(Undeliverable):
            make_links(config).address(link)


@pytest.mark.parametrize(
    ("variables", "is_mailed"),
    [
        (PRODUCTION | {"EMAIL_SERVICE_URL": "http://mails"}, False),
        (PRODUCTION | {"EMAIL_SERVICE_URL": "https://mails"}, True),
        (PRODUCTION | {"EMAIL_SERVICE_URL": "smtps://mails", **MAIL_SERVER}, True),
        ({"EMAIL_SERVICE_URL": "http://mails"}, True),
    ],
)
def test_in_production_links_leave_encrypted_alone(variables, is_mailed):
    links = make_links(AppConfig.from_env({"PUBLIC_URL": "https://a.example", **variables}))
    token = links.make("reset", UUID(int=1), made_at=datetime.now(UTC))

    assert links.address(token, is_mailed=False) == f"https://a.example/account#{token}"
    if is_mailed:
        assert links.address(token) == links.address(token, is_mailed=False)
    else:
        with pytest.raises(Undeliverable, match="https"):
            links.address(token)
