from __future__ import annotations

import ast
import re
import shutil
import sys

import pytest

from chassis.http.auth import guard_of
from chassis.http.operation import operation_of
from tests.support.processes import ROOT, run
from tests.support.routes import UNDESCRIBED

SHELL = sorted(ROOT.glob("*.py"))
PACKAGES = ("chassis", "userservice")
OURS = [
    *SHELL,
    *(file for package in (*PACKAGES, "migrations") for file in (ROOT / package).rglob("*.py")),
]
PRODUCT = [
    *SHELL,
    *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")),
]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 35
# Path -> why it may be longer, and its functions, too.
LONG: dict[str, str] = {}
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint()"
PROBES = {"/health", "/ready", "/version"}
CONTRACTS = {
    "The packages never import the root": ("chassis/errors.py", "import config"),
    "The service stands on the chassis, never the other way round": (
        "chassis/storage/database.py",
        "from userservice.users import models",
    ),
    "A resource may use those below it": (
        "userservice/users/service.py",
        "from userservice.tokens import errors",
    ),
    "Inside a resource": (
        "userservice/users/queries.py",
        "from userservice.users import service",
    ),
    "The rooms of the chassis": (
        "chassis/storage/migrations.py",
        "from chassis.background import outbox",
    ),
    "Only chassis.http and routes know Flask": ("chassis/security.py", "import flask"),
}


def imports(file):
    """Return the first names of all modules that a file imports, wherever it does so."""
    return {name.partition(".")[0] for name in modules_of(file)}


def modules_of(file):
    """Return the names of all modules that a file imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module))
    return found


def long_functions(text):
    """Return the names of functions that are too long, decorators not counted."""
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Call that copies what the contracts are about."""

    def copy():
        folder = tmp_path_factory.mktemp("copy")
        ignore = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=ignore)
        for file in (*SHELL, ROOT / "pyproject.toml"):
            shutil.copy(file, folder)
        return folder

    return copy


def contracts_of(folder):
    """Return contract -> KEPT or BROKEN."""
    result = run(sys.executable, "-c", LINT_IMPORTS, "--no-cache", cwd=folder)
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)(?: \(.+\))?$", result.stdout, re.MULTILINE))
    assert result.returncode == (1 if "BROKEN" in verdicts.values() else 0), result.stdout
    return verdicts


def test_nobody_imports_the_application():
    assert [str(file.relative_to(ROOT)) for file in OURS if "app" in imports(file)] == []


def test_imports_are_found_wherever_they_are(tmp_path):
    file = tmp_path / "example.py"
    file.write_text("import a.b as c\ndef f():\n    from d.e import g\n    import h, i\n")

    assert imports(file) == {"a", "d", "h", "i"}


def test_the_configuration_imports_nothing_of_ours_but_rooms_that_import_nothing_else():
    ours = {file.stem for file in SHELL} | {*PACKAGES, "migrations", "tests"}
    rooms = ("chassis/process", "chassis/settings")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]

    files += [ROOT / name for name in ("config.py", "userservice/settings.py", "chassis/once.py")]
    modules = {name for file in files for name in modules_of(file)}

    used = {name for name in modules if name.partition(".")[0] in ours}
    assert {".".join(name.split(".")[:2]) for name in used} == {
        "userservice.settings",
        "chassis.once",
        *(room.replace("/", ".") for room in rooms),
    }


def test_no_module_at_the_root_hides_one_of_the_standard_library():
    packages = {file.parent.name for file in ROOT.glob("[a-z]*/*.py")}
    names = {file.stem for file in SHELL} | packages

    assert {"app", "config", *PACKAGES} <= names
    assert names & sys.stdlib_module_names == set()


def test_every_route_says_who_may_call_it(app):
    unguarded = [name for name, view in app.view_functions.items() if guard_of(view) is None]

    assert app.view_functions
    assert unguarded == []


def test_a_view_without_a_guard_would_be_seen():
    assert guard_of(lambda: "") is None


def test_every_route_describes_itself_or_has_a_reason_not_to(app):
    undescribed = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if operation_of(app.view_functions[rule.endpoint]) is None
    }

    assert undescribed == set(UNDESCRIBED)


def test_a_view_without_a_description_would_be_seen():
    assert operation_of(lambda: "") is None


def test_files_and_functions_are_short():
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in PRODUCT}
    long_files = {path for path, text in texts.items() if len(text.splitlines()) > MAX_FILE_LINES}
    functions = {path: found for path, text in texts.items() if (found := long_functions(text))}

    assert (long_files | set(functions)) - set(LONG) == set(), functions


def test_a_long_function_is_found_wherever_it_is():
    body = "        pass\n" * MAX_FUNCTION_LINES

    assert long_functions(f"class A:\n    def short(self):\n{body[:-13]}") == []
    assert long_functions(f"class A:\n    async def long(self):\n{body}") == ["long"]


def test_every_file_that_may_be_long_exists():
    assert set(LONG) <= {str(file.relative_to(ROOT)) for file in PRODUCT}


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


@pytest.mark.parametrize(
    ("module", "contract"),
    [
        ("userservice/strangers.py", "A resource may use those below it"),
        ("chassis/strangers.py", "The rooms of the chassis"),
    ],
)
def test_a_new_resource_and_a_new_room_must_say_where_they_belong(copy, module, contract):
    folder = copy()
    (folder / module).write_text("")

    verdicts = contracts_of(folder)

    assert [name for name, verdict in verdicts.items() if verdict == "BROKEN"] == [contract]


def test_a_new_mechanism_in_a_room_needs_no_line(copy):
    folder = copy()
    (folder / "chassis/clients/sms.py").write_text("from chassis.clients import resilience\n")

    assert contracts_of(folder) == dict.fromkeys(CONTRACTS, "KEPT")
