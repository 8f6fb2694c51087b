from __future__ import annotations

import ast
import re
import shutil
import sys

import pytest

from tests.processes import BIN, ROOT, run
from userservice.auth import guard_of

SHELL = sorted(ROOT.glob("*.py"))
OURS = [*SHELL, *(ROOT / "chassis").rglob("*.py"), *(ROOT / "userservice").rglob("*.py"), *(ROOT / "migrations").rglob("*.py")]
PROBES = {"/health", "/ready", "/version"}
CONTRACTS = {
    "The package never imports the shell": ("userservice/errors.py", "import config"),
    "The chassis knows no service": ("chassis/http/wire.py", "import userservice"),
    "Resources use the edge, the edge uses mechanisms": (
        "userservice/errors.py",
        "from userservice import schemas",
    ),
    "Inside a resource": ("userservice/users/queries.py", "from userservice.users import service"),
    "Only the edge knows Flask, even indirectly": ("userservice/security.py", "import flask"),
}


def imports(file):
    """Return the first names of all modules that a file imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Call that copies what the contracts are about."""

    def copy():
        folder = tmp_path_factory.mktemp("copy")
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("chassis", "userservice"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        for file in (*SHELL, ROOT / "pyproject.toml"):
            shutil.copy(file, folder)
        return folder

    return copy


def contracts_of(folder):
    """Return contract -> KEPT or BROKEN."""
    result = run(str(BIN / "lint-imports"), "--no-cache", cwd=folder)
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)$", result.stdout, re.MULTILINE))
    assert result.returncode == (1 if "BROKEN" in verdicts.values() else 0), result.stdout
    return verdicts


@pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_imports_the_application(file):
    assert "app" not in imports(file)


def test_imports_are_found_wherever_they_are(tmp_path):
    file = tmp_path / "example.py"
    file.write_text("import a.b as c\ndef f():\n    from d.e import g\n    import h, i\n")

    assert imports(file) == {"a", "d", "h", "i"}


def test_the_configuration_imports_nothing_of_ours():
    ours = {file.stem for file in SHELL} | {"chassis", "userservice", "migrations", "tests"}

    assert imports(ROOT / "config.py") & ours == set()


def test_no_module_at_the_root_hides_one_of_the_standard_library():
    packages = {file.parent.name for file in ROOT.glob("[a-z]*/*.py")}
    names = {file.stem for file in SHELL} | packages

    assert {"app", "config", "userservice"} <= names
    assert names & sys.stdlib_module_names == set()


def test_every_route_says_who_may_call_it(app):
    unguarded = [name for name, view in app.view_functions.items() if guard_of(view) is None]

    assert app.view_functions
    assert unguarded == []


def test_a_view_without_a_guard_would_be_seen():
    assert guard_of(lambda: "") is None


def test_every_route_of_users_and_every_probe_is_documented(app, client):
    documented = {
        (path, method)
        for path, methods in client.get("/openapi.json").json["paths"].items()
        for method in methods
    }

    expected = {
        (re.sub(r"<\w+:(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule in PROBES or rule.rule.startswith("/users")
    }
    assert expected <= documented
    assert {path for path, _ in expected} >= PROBES | {"/users", "/users/{user_id}"}


def test_the_contracts_about_imports_are_kept(copy):
    verdicts = contracts_of(copy())

    assert verdicts == dict.fromkeys(CONTRACTS, "KEPT")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_contract_notices_an_import_that_breaks_it(copy, contract):
    file, line = CONTRACTS[contract]
    folder = copy()
    with (folder / file).open("a") as module:
        module.write(f"\n{line}\n")

    verdicts = contracts_of(folder)

    assert verdicts == dict.fromkeys(CONTRACTS, "KEPT") | {contract: "BROKEN"}


def test_a_new_module_must_say_which_layer_it_belongs_to(copy):
    folder = copy()
    (folder / "userservice" / "teams.py").write_text("")

    verdicts = contracts_of(folder)

    assert [name for name, verdict in verdicts.items() if verdict == "BROKEN"] == [
        "Resources use the edge, the edge uses mechanisms"
    ]
