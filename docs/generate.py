"""Write the documentation that the code already contains: `python docs/generate.py`."""  # noqa: INP001 - a script

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import Field
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script sees its own folder only

import chassis
import userservice
from chassis.errors import AppError
from chassis.http.problem import type_of
from chassis.http.problem_pages import explain, failures
from chassis.settings.foreign import FOREIGN
from chassis.settings.variables import settings_of
from config import AppConfig
from docs import access, actions, examples, rooms

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (chassis, userservice)

# The settings that one sets first; the README shows only these.
FIRST = (
    "ENVIRONMENT",
    "PORT",
    "DATABASE_URL",
    "REDIS_URL",
    "API_KEY",
    "JWT_SECRET",
    "WEB_CONCURRENCY",
    "LOG_FORMAT",
)

BEGIN = "<!-- {part}: written by make docs -->"
END = "<!-- end of {part} -->"

CONFIGURATION = """\
<!-- Written by make docs from config.py and userservice/settings.py; changes belong there. -->
# Configuration

The service is configured by environment variables alone. They are read once, when a
process starts, and checked together: one message names every variable that is wrong and
what it accepts, the exit status is 2, and nothing has been started.

- Durations are in seconds, and their variables end in `_SECONDS`.
- A secret can also come from a file: `JWT_SECRET_FILE=/run/secrets/jwt` instead of
  `JWT_SECRET`. Setting both is an error. A line end at the end of the file is dropped.
- A relative path, of a secret's file or of an SQLite database, begins in the project for every
  process. Give absolute ones to libraries, such as `sslrootcert=` in `DATABASE_URL`.
- One rule for empty values: a variable that is set but empty counts as not set, and has its
  default, `OTEL_*` and `..._FILE` included. Two settings can be nothing, so there an empty value
  says so: {exceptions}.
- URLs may have options behind a `?`. Those that the library would refuse, or ignore, are refused at
  the start.
- `python app.py admin config` prints what is in effect, with secrets masked.

{table}

Production (`ENVIRONMENT=production`) refuses an empty `API_KEY`, the default or a short
`JWT_SECRET`, a short `JWT_SECRET_PREVIOUS`, `DEBUG`, SQLite, a mail server without TLS (`smtp://`)
and an `EMAIL_SERVICE_TOKEN` that would travel over `http://`. `admin check --deploy` looks at
more, and in any environment: see [checks](checks.md).

Some settings go together, and are refused otherwise:

- `TERMINATION_GRACE_SECONDS` has room for `DRAIN_SECONDS` and the end of a process.
- `OUTBOX_LEASE_SECONDS` is longer than `EMAIL_TIMEOUT_SECONDS`.
- `REFRESH_TOKEN_SECONDS` is longer than `ACCESS_TOKEN_SECONDS`.
- `TOKEN_SIGNING_KEY` and `TOKEN_SIGNING_KEY_NEXT` have a `TOKEN_ISSUER`, in production one of
  `https://`; `TOKEN_SIGNING_KEY_PREVIOUS` has a `TOKEN_SIGNING_KEY`. See
  [signing keys](operations.md#signing-keys).
- `TASK_ENGINE=dramatiq` has a `REDIS_URL`.
- A mail server (`smtp://`, `smtps://`, `smtp+starttls://`) has `EMAIL_FROM`. Its name and password
  stand in the URL, percent-encoded, and not behind `smtp://`.
- `EMAIL_SERVICE_TOKEN` goes to `http(s)://`, whose URL holds no credentials then.
- `EMAIL_ON_TERMINAL` is for `ENVIRONMENT=development`.

## Variables that libraries read

They are no settings of the service, and reach a library although the service does not read them. Of
two lines that name a variable the upper one counts.

{foreign}
"""

ERRORS = """\
<!-- Written by make docs from the subclasses of AppError; changes belong there. -->
# Errors

Every error is a problem document (RFC 9457, `application/problem+json`). Branch on `code`
or `type`: they never change. `title` and `detail` are for people and may. `type` is the address
of a short page about the code, below the place where the service is mounted.

| `code` | `type` | Status | `title` | Meaning | Remedy |
|---|---|---|---|---|---|
{rows}

Where a code has several titles and meanings, they are kinds of one error: what to do is
the same, and `detail` says which it is.

`errors` lists each member of the input that is wrong, as `pointer` and `detail`.
`request_id` is the `X-Request-ID` of the answer; quote it when you ask for help.

Under `/auth`, `error` holds a code of OAuth 2, and `error_description` the detail: there its
clients look for them (RFC 6749, section 5.2). Other faults of the request are `invalid_request`
there, 405, 413 and 415 among them; `too_many_requests`, `unavailable` and `internal_error` stay.

Refusals of HTTP itself, before a route is reached, such as a method that an address does
not have, carry the name of their status as `code`: `method_not_allowed` for 405.
"""


def texts() -> dict[Path, str]:
    """Return file -> its text."""
    readme, audit = ROOT / "README.md", ROOT / "docs" / "audit.md"
    return {
        ROOT / "docs" / "access.md": access.page(),
        ROOT / "docs" / "configuration.md": configuration(),
        ROOT / "docs" / "errors.md": errors(),
        ROOT / "docs" / "rooms.svg": rooms.picture(),
        readme: with_part(readme, "configuration", first_settings()),
        audit: with_part(audit, "actions", table(("Deed", "Remark"), actions.rows())),
        **examples.texts(),
    }


def configuration() -> str:
    """Describe every variable."""
    settings = settings_of(AppConfig)
    exceptions = [variable(each) for each in settings if each.metadata["empty"] != each.default]
    rows = [
        (variable(each), each.metadata["kind"].accepts, default(each), secret(each), meaning(each))
        for each in settings
    ]
    return CONFIGURATION.format(
        exceptions=" and ".join(exceptions),
        table=table(("Variable", "Accepts", "Default", "Secret", "Meaning"), rows),
        foreign=table(("Variable", "Read by", "Effect", "Remark"), foreign_rows()),
    )


def foreign_rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield the cells of the table of variables that libraries read."""
    for each in FOREIGN:
        names = ", ".join(f"`{name}`" for name in each.names)
        yield names, each.reader, str(each.effect), each.remark


def with_part(file: Path, part: str, content: str) -> str:
    """Return a document with a part written anew.

    Raises:
        ValueError: the document does not say where the part is.
    """
    begin, end = BEGIN.format(part=part), END.format(part=part)
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{file.name} needs a line {begin} and, further down, a line {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def first_settings() -> str:
    """Return the table of the settings that one sets first."""
    settings = {each.name.upper(): each for each in settings_of(AppConfig)}
    first = [settings[name] for name in FIRST]
    rows = [(variable(each), default(each), meaning(each)) for each in first]
    return table(("Variable", "Default", "Meaning"), rows)


def errors() -> str:
    """Describe every error that the service raises on purpose, once for each code."""
    rows = [
        (
            f"`{each.code}`",
            f"`{type_of(each.code)}`",
            str(int(each.status)),
            *("<br>".join(texts) for texts in (each.titles, each.meanings, each.remedies)),
        )
        for each in sorted(explain(error_classes()).values())
    ]
    return ERRORS.format(rows="\n".join(map(row, rows)))


def error_classes() -> set[type[AppError]]:
    """Return the failures of chassis and service, all of their modules loaded."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    names = {package.__name__ for package in PACKAGES}
    return {each for each in failures() if each.__module__.partition(".")[0] in names}


def variable(each: Field[Any]) -> str:
    """Return the variable's name."""
    return f"`{each.name.upper()}`"


def default(each: Field[Any]) -> str:
    """Return the default as one would write it in the environment."""
    value = each.default
    if isinstance(value, frozenset):
        value = ",".join(sorted(value))
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if str(value) else "empty"


def secret(each: Field[Any]) -> str:
    """Return the column that says whether a setting is secret, with its `_FILE` variable."""
    return f"yes, or `{each.name.upper()}_FILE`" if each.metadata["secret"] else "no"


def meaning(each: Field[Any]) -> str:
    """Return the setting's sentence."""
    return str(each.metadata["doc"])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Render a Markdown table."""
    head = tuple(head)
    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, rows)])


def row(cells: Iterable[str]) -> str:
    """Render a row; a bar inside a cell would end it."""
    return "| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in cells) + " |"


if __name__ == "__main__":
    for file, text in texts().items():
        file.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{file.relative_to(ROOT)}\n")
