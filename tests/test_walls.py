"""Walls that no contract about imports sees: names, caches, and values that threads share."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import NamedTuple

import pytest

from tests.support.processes import ROOT
from tests.support.source import (
    INSIDE,
    PACKAGES,
    PRODUCT,
    SHELL,
    first_uses,
    path_of,
    shared_changes,
    used_names,
)


class Wall(NamedTuple):
    """Names that files may not use, but for those that have a reason."""

    names: str
    files: str
    allowed: dict[str, str]


RESOURCE = r"userservice/\w+/"
WALLS = {
    "an import that no contract sees": Wall(
        r"__import__|importlib\.(?:import_module|__import__|util|machinery)|runpy|sys\.modules"
        r"|pkgutil\.resolve_name",
        "chassis/|userservice/",
        {"chassis/clients/otlp_exporters.py": "the exporter that is asked for, a library's"},
    ),
    "the environment, which the root reads": Wall(
        r"os\.(?:environb?|getenvb?|putenv)",
        "chassis/|userservice/",
        {
            "chassis/http/metrics.py": "written by instruments.py, for its library",
            "chassis/cli/options.py": "--version needs no whole configuration",
            "chassis/clients/otlp_exporters.py": "OpenTelemetry's variables, whose names it owns",
            "chassis/storage/postgresql.py": "libpq would read PGOPTIONS, had we no options",
            "chassis/telemetry/otel_variables.py": "the same, before OpenTelemetry reads them",
            "chassis/telemetry/shared_counts.py": "the same variable; the operator may set it",
            "chassis/telemetry/instruments.py": "the way to tell prometheus_client its folder",
        },
    ),
    "a cache without a lock": Wall(
        r"functools\.(?:cache|cached_property|lru_cache)|werkzeug\.utils\.cached_property"
        r"|sqlalchemy\.util\.memoized_\w+",
        "",
        {
            "chassis/once.py": "has the lock",
            "chassis/http/answer.py": "two threads make the same text",
            "chassis/http/flask_app.py": "two threads are given the same function",
            "chassis/telemetry/statements.py": "two threads read the same from a statement",
            "userservice/users/addresses.py": "two threads find the same",
        },
    ),
    "SQL, which is for queries, and for rules that read its failures": Wall(
        r"sqlalchemy",
        RESOURCE + r"(?:routes|(?:\w+_)?commands|events|resource|schemas|metrics|errors)\.py",
        {},
    ),
    "click, which is for commands": Wall(
        r"click",
        RESOURCE + r"(?!(?:\w+_)?commands\.py|resource\.py)|chassis/(?!cli/|resource\.py)",
        {},
    ),
}
# Planted in a file -> the wall that it breaks.
PLANTED = [
    ("import importlib as i\nm = i.import_module('config')", "chassis/errors.py", 0),
    (
        "def f():\n    from importlib import import_module as load",
        "userservice/users/service.py",
        0,
    ),
    ("m = __import__('userservice.users')", "chassis/errors.py", 0),
    ("import sys\ndef f():\n    return sys.modules['app']", "chassis/errors.py", 0),
    ("import pkgutil\nm = pkgutil.resolve_name('config:AppConfig')", "chassis/schemas.py", 0),
    ("import os\nLIMIT = os.getenv('LIMIT')", "userservice/users/service.py", 1),
    ("from os import environ as e\nLIMIT = e['LIMIT']", "chassis/storage/ids.py", 1),
    ("import functools\n@functools.lru_cache\ndef f(): ...", "userservice/users/service.py", 2),
    ("from functools import cache as kept", "workers.py", 2),
    ("from werkzeug.utils import cached_property", "chassis/http/web.py", 2),
    ("from sqlalchemy import select", "userservice/users/routes.py", 3),
    ("def f():\n    import sqlalchemy.orm as o", "userservice/tokens/schemas.py", 3),
    ("import click", "userservice/users/service.py", 4),
    ("from click import echo", "chassis/storage/migrations.py", 4),
]
# Modules of a resource that other resources may not enter: HTTP, the worker, tables.
CLOSED = r"userservice\.(\w+)\.(?:resource|routes|commands|events|models)\b"
# Package -> why it imports something by itself.
IMPORTING = {
    "chassis/telemetry/__init__.py": "variables are settled before OpenTelemetry reads them",
}
# Path and name -> why a function may change a value of its module, which all threads share.
SHARED = {
    ("chassis/http/balance.py", "_shared"): "memory of all workers, a slot for each",
    ("chassis/process/forks.py", "_is_holding"): "gunicorn's master has one thread",
    ("chassis/telemetry/log_level.py", "_is_switched"): "a byte that one thread writes",
    ("chassis/http/head.py", "_keys"): "two threads that miss a name store the same key",
    ("chassis/telemetry/otel_variables.py", "_complaints"): "kept until there is a log",
    ("chassis/telemetry/otel_variables.py", "_reported"): "written while logging is set up",
    ("chassis/telemetry/instrumentation.py", "_settings"): "set once, before there are threads",
    ("chassis/telemetry/shared_counts.py", "_directory"): "gunicorn's master has one thread",
    ("chassis/telemetry/shared_counts.py", "_own_slot"): "set in a worker before its threads",
    ("chassis/telemetry/shared_counts.py", "_slots"): "gunicorn's master has one thread",
    ("chassis/telemetry/tracing.py", "_settings"): "set once, before there are threads",
}
# Path and target -> why it may be set where it is missing, without a lock.
UNLOCKED = {
    ("chassis/cli/streams.py", "sys.stderr"): "a command has one thread",
    ("chassis/http/wire.py", "self._is_limited"): "one thread at a time has a connection",
    ("chassis/process/reactions.py", "self._waits"): "handlers run in the thread that reacts",
    ("chassis/storage/database.py", "self._engine"): "`initialize` comes before there are threads",
}


def breaches(wall, path, source):
    """Return the names that a file uses and may not."""
    if path in wall.allowed or not re.match(wall.files, path):
        return []
    return sorted(name for name in used_names(source) if re.match(rf"(?:{wall.names})\b", name))


@pytest.mark.parametrize("wall", WALLS)
def test_no_file_uses_a_name_that_is_not_for_it(wall):
    found = {path_of(each): breaches(WALLS[wall], path_of(each), read(each)) for each in PRODUCT}

    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(("source", "path", "wall"), PLANTED)
def test_a_name_that_is_not_for_a_file_is_found_whatever_it_is_called(source, path, wall):
    walls = list(WALLS.values())

    assert [number for number, each in enumerate(walls) if breaches(each, path, source)] == [wall]


@pytest.mark.parametrize("wall", WALLS)
def test_a_file_that_may_use_a_name_does_so(wall):
    everywhere = Wall(WALLS[wall].names, "", {})

    unused = [
        path for path in WALLS[wall].allowed if not breaches(everywhere, path, read(ROOT / path))
    ]

    assert unused == []


def test_a_resource_enters_others_by_their_rules_and_not_by_their_doors():
    entered = {path_of(each): doors(path_of(each), read(each)) for each in INSIDE}

    assert {path: names for path, names in entered.items() if names} == {}


def test_a_door_of_another_resource_would_be_seen():
    source = (
        "from userservice.users import routes, service\nfrom userservice.users.models import User"
    )

    assert doors("userservice/jobs/service.py", source) == [
        "userservice.users.models.User",
        "userservice.users.routes",
    ]
    assert doors("userservice/users/service.py", source) == []


def test_a_package_imports_nothing_by_itself():
    importing = {
        path_of(each) for each in INSIDE if each.name == "__init__.py" and used_names(read(each))
    }

    assert importing == set(IMPORTING)


def test_the_contract_about_the_root_names_all_that_is_there():
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if "root" in each["name"])
    modules = {each.stem for each in SHELL if each.stem.isidentifier()}
    folders = {each.relative_to(ROOT).parts[0] for each in ROOT.glob("[a-z]*/**/*.py")}

    assert set(contract["forbidden_modules"]) == (modules | folders) - {*PACKAGES, "build"}


def test_no_function_changes_a_value_of_its_module_but_for_a_reason():
    changed = {(path_of(each), name) for each in PRODUCT for name in shared_changes(read(each))}

    assert changed == set(SHARED)


@pytest.mark.parametrize(
    "body",
    [
        "global made\n    made = 1",
        "made['a'] = 1",
        "made.setdefault('a', 1)",
        "if 'a' not in made: made.update(a=1)",
        "made.a.append(1)",
        "del made['a']",
    ],
)
def test_a_change_of_a_value_of_a_module_would_be_seen(body):
    assert shared_changes(f"made = {{}}\ndef f():\n    {body}\n") == {"made"}
    assert shared_changes("made = {}\ndef f():\n    made = []\n    made.append(1)\n") == set()


def test_nothing_is_made_where_it_is_missing_without_a_lock():
    made = {(path_of(each), target) for each in PRODUCT for target in first_uses(read(each))}

    assert made == set(UNLOCKED)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("if self._client is None:\n    self._client = Client()", "self._client"),
        ("if not self.client:\n    self.client = Client()", "self.client"),
        ("if 'a' not in app.extensions:\n    app.extensions['a'] = 1", "app.extensions['a']"),
        ("if kept is None:\n    kept = 1", None),
    ],
)
def test_a_value_that_is_made_where_it_is_missing_would_be_seen(source, target):
    assert first_uses(source) == ({target} if target else set())


def test_one_place_puts_layers_around_the_application():
    placing = {
        path_of(each)
        for each in PRODUCT
        for node in ast.walk(ast.parse(read(each)))
        if isinstance(node, ast.Attribute)
        and node.attr == "wsgi_app"
        and isinstance(node.ctx, ast.Store)
    }

    assert placing == {"chassis/http/layers.py"}


def doors(path, source):
    """Return the names of other resources' closed modules that a file of a resource uses."""
    parts = path.split("/")
    if parts[0] != "userservice" or len(parts) < 3:
        return []
    found = [(re.match(CLOSED, name), name) for name in used_names(source)]
    return sorted(name for match, name in found if match and match[1] != parts[1])


def read(file):
    """Return a file's text."""
    return file.read_text(encoding="utf-8")
