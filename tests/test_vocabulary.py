"""The chassis serves any service: its code, texts and comments name nothing of this one."""

from __future__ import annotations

import re

import pytest

from tests.support.processes import ROOT
from userservice import SERVICE_NAME, SERVICE_WORDS
from userservice.resources import EVENT_HANDLERS, RESOURCES

CHASSIS = sorted(
    file
    for file in (ROOT / "chassis").rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
)


def is_ours(resource):
    """Tell whether a resource is a package of this service."""
    return (ROOT / "userservice" / resource.name).is_dir()


# Words of this service and of its resources, whole or as a part of a name with underscores.
SERVICE = "|".join(re.sub("[-_]", "[-_ ]?", word) for word in SERVICE_WORDS if word)
OURS = [each for each in RESOURCES if is_ours(each)]
# Names of one word are written down below: those of others may be English, such as orders.
NAMES = (
    "|".join(
        f"{table.removesuffix('s')}s?" for each in OURS for table in each.tables if "_" in table
    ).replace("_", "[ _-]?")
    or "(?!)"
)
TOPICS = "|".join(map(re.escape, EVENT_HANDLERS)) or "(?!)"
ADDRESSES = "|".join(each.blueprint.url_prefix or "(?!)" for each in OURS if each.blueprint)
FORBIDDEN = re.compile(
    r"""(?<![a-z])(?:
        users?                                          # the resources, and their tables
        | jobs?
        | {resources}
        | refresh[ _-]?tokens? | token[ _-]?issuers?
        | imports?_lines? | sign-?ups? | tiers?
        | {service}                                     # the service
        | welcome                                       # what it sends
    )(?![a-z])
    | ["'][a-z_]+\.(?:registered|import(?:ed)?|created|deleted)["']    # topics of messages
    | {topics}
    | (?:/auth|{addresses})(?![a-z])                    # addresses
    """.replace("{service}", SERVICE)
    .replace("{resources}", NAMES)
    .replace("{topics}", TOPICS)
    .replace("{addresses}", ADDRESSES),
    re.IGNORECASE | re.VERBOSE,
)
# (File, or all, and a use that is the field's and not this service's) -> reason.
ALLOWED = {
    (
        "",
        r"User-Agent|HTTP_USER_AGENT|user_agent\.(?:original|synthetic\.type)|synthetic_user_agent",
    ): ("a header, and OpenTelemetry's attributes for it"),
    ("", r"\buser_id\b"): "OpenTelemetry's user.id; the subject of an access token (RFC 9068)",
    ("chassis/storage/postgresql.py", r"tcp_user_timeout"): "an option of TCP, named by Linux",
    ("chassis/http/auth.py", r"\b(?:live )?[Uu]sers?\b|\bUSER\b"): (
        "the kinds of callers of any API: people beside services, and administrators"
    ),
    ("chassis/http/authenticator.py", r"\busers?\b"): "the same kinds",
    ("chassis/actor.py", r"\busers?\b|\bUSER\b"): "the same kinds, as the audit trail names them",
    ("chassis/clients/smtp_session.py", r"self\.user\b"): "the name for a log-in, of smtplib",
    ("chassis/access_tokens.py", r"\busers?\b"): "those whom an access token names (RFC 6749)",
    ("chassis/settings/token_keys.py", r"token_issuer\b|TOKEN_ISSUER\b"): (
        "the issuer of access tokens (RFC 9068), in the name of its setting"
    ),
    ("chassis/passwords.py", r"to the user\b"): "those whose password it is (NIST SP 800-63B)",
}


def split_words(line):
    """Write UserCreate as User_Create."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", line)


def words(path, text):
    """Return the words of this service in a file's path and text, each with its line."""
    for file, use in ALLOWED:
        if file in {"", path}:
            text = re.sub(use, "", text)
    lines = [path.replace("/", " "), *text.splitlines()]
    return [
        (number, found[0])
        for number, line in enumerate(map(split_words, lines))
        for found in FORBIDDEN.finditer(line)
    ]


def test_the_chassis_names_nothing_of_this_service():
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in CHASSIS}

    assert len(texts) > 100
    assert {path: found for path, text in texts.items() if (found := words(path, text))} == {}


@pytest.mark.parametrize(
    "line",
    [
        f"import {SERVICE_WORDS[0]}",
        f'NAME = "{SERVICE_NAME}"',
        f"named after {SERVICE_WORDS[1]}",
        '@trace_function("user_service.save")',
        '"""Removes the jobs that are over."""',
        "# a user who is gone",
        'OAUTH_PREFIX = "/auth/"',
        "def count_user_created(): ...",
        'topic == "user.registered"',
        "TIERS = ()",
        "refresh_token = 1",
        'send("welcome")',
        "from somewhere import UserCreate",
        "def createUser(): ...",
        "SELECT id FROM job_chunks",
    ],
)
def test_a_word_of_this_service_would_be_seen(line):
    assert words("chassis/example.py", line)


def test_a_word_of_this_service_in_the_name_of_a_file_would_be_seen():
    assert words("chassis/storage/user_rows.py", "")


@pytest.mark.parametrize(
    "line", ["tcp = connection.userinfo", 'headers["User-Agent"]', "page_token", "an access token"]
)
def test_a_word_of_the_field_is_no_word_of_this_service(line):
    assert words("chassis/example.py", line) == []


@pytest.mark.parametrize(("file", "use"), ALLOWED)
def test_every_use_that_is_allowed_is_made(file, use):
    files = [each for each in CHASSIS if str(each.relative_to(ROOT)) == file] or CHASSIS

    assert any(re.search(use, each.read_text(encoding="utf-8")) for each in files)
