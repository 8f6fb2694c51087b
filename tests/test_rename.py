"""A clone gets its own names, and nothing of the first ones stays."""

from __future__ import annotations

import re
import sys

import pytest

from tests.support.clone import (
    ENVIRONMENT,
    LINK,
    MAKE,
    checked,
    clone,
    commit,
    git,
    needs_git,
    run_in,
)
from tests.support.processes import ROOT
from tools.rename import Names

pytestmark = [needs_git, pytest.mark.slow, pytest.mark.timeout(600)]
RENAME = (sys.executable, "tools/rename.py")
OLD = re.compile(r"\buser[-_ ]?service|cloud[-_ ]?native", re.IGNORECASE)
# The spans of the resource users, which keeps its name.
SPANS = re.compile(r"\buser_service\.(\w+|\*)")
# An account and addresses that stand for the clone's own. Mailboxes are of nobody, and stay.
OWNER = re.compile(r"(?<![.\w])example/")
ADDRESS = re.compile(r"(?<![\w@])(?:[\w-]+\.)*example\.\w+")
DEPLOYED = (".github/", "monitoring/", "Dockerfile", "compose.yaml", "renovate.json")
RECORDED = ("benchmarks/results/", "LICENSE")
MEASURED = re.compile(r"<!-- begin: ([\w-]+) -->.*?<!-- end: \1 -->", re.DOTALL)
SCRIPT = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IDENTITY = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
QUICK = ("tests/test_docs.py", "tests/test_tour.py", "tests/test_passwords.py", "tests/deploy")
# Tests of what finds faults, and of the bridge, for which names make no difference.
ELSEWHERE = "fault_is_found or command_is_found or another_service or two_namespaces or bridge"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A clone that stays as it is."""
    return clone(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """A clone that was renamed, and in which was done what `make rename` says comes next."""
    folder = clone(tmp_path_factory.mktemp("renamed"))
    done = checked(folder, *MAKE, "rename", "name=orders-api", "package=orders", "owner=Acme")
    assert "make format docs check" in done.stdout
    assert ".github/CODEOWNERS" in done.stdout
    assert "git grep example\\. k8s" in done.stdout
    checked(folder, *MAKE, "format", "docs")
    return folder


def texts(folder):
    """Yield the repository's files as path, text; what is no text is left out."""
    for path in git(folder, "ls-files", "-z").rstrip("\0").split("\0"):
        try:
            yield path, (folder / path).read_bytes().decode()
        except UnicodeDecodeError:
            continue


def refusal(folder, name, package, owner="acme"):
    """Return the line that says why a clone is not renamed; the clone stays as it is."""
    before = git(folder, "status", "--porcelain")
    named = (f"--name={name}", f"--package={package}", f"--owner={owner}")
    done = run_in(folder, *RENAME, *named)
    assert done.returncode == 2, done.stdout
    assert git(folder, "status", "--porcelain") == before
    (line,) = done.stderr.splitlines()
    return line


def test_nothing_of_the_old_names_is_left(renamed):
    left = [
        f"{path}: {line.strip()}"
        for path, text in texts(renamed)
        if not path.startswith((*RECORDED, "tools/rename.py"))
        for line in (path, *MEASURED.sub("", text).splitlines())
        if OLD.search(SPANS.sub("", line))
    ]

    assert left == []


def test_nothing_of_the_first_owner_is_left(renamed):
    left = [path for path, text in texts(renamed) if OWNER.search(text)]

    assert left == []
    assert "@Acme/maintainers" in (renamed / ".github/CODEOWNERS").read_text()
    assert "github.com/Acme/orders-api/blob/" in (renamed / "monitoring/alerts.yaml").read_text()
    overlay = (renamed / "k8s/overlays/production/kustomization.yaml").read_text()
    assert "newName: ghcr.io/acme/orders-api\n" in overlay


def test_addresses_of_nobody_are_left_where_the_clone_is_told_to_look_for_them(renamed):
    left = {path for path, text in texts(renamed) if ADDRESS.search(text)}

    assert "k8s/overlays/production/config.env" in left
    assert [path for path in left if path.startswith(DEPLOYED)] == []


def test_files_and_objects_have_the_new_names(renamed):
    assert not (renamed / "userservice").exists()
    assert (renamed / "orders" / "users" / "service.py").exists()
    assert (renamed / "monitoring" / "dashboards" / "orders-api.json").exists()
    assert "name: orders-api-worker\n" in (renamed / "k8s/base/worker.yaml").read_text()
    assert (
        "key: orders-api/production," in (renamed / "k8s/examples/external-secret.yaml").read_text()
    )
    assert "job_name: orders-api\n" in (renamed / "monitoring/compose/prometheus.yaml").read_text()


def test_what_was_recorded_stays_as_it_was(fresh, renamed):
    recorded = {
        path: text
        for path, text in texts(fresh)
        if path.startswith(RECORDED) or re.search(r"requirements[\w-]*\.(in|txt)$", path)
    }
    measured = [
        [found[0] for found in MEASURED.finditer((folder / "docs/performance.md").read_text())]
        for folder in (fresh, renamed)
    ]

    assert len(recorded) > 10
    assert {path: (renamed / path).read_text() for path in recorded} == recorded
    assert measured[0] == measured[1] != []


def test_the_changelog_begins_anew(renamed):
    _, _, changes = (renamed / "CHANGELOG.md").read_text().partition("## Unreleased\n")

    assert changes == "\n### Added\n\n- The first version.\n"


def test_a_renamed_clone_passes_its_checks(renamed):
    checked(renamed, *MAKE, "lint", "contracts")
    checked(
        renamed, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK,
        "-m", "not slow and not integration", "-k", f"not ({ELSEWHERE})",
    )  # fmt: skip


def test_a_clone_is_renamed_once(renamed):
    assert refusal(renamed, "orders-api", "orders") == (
        "There is no userservice/ any more: a clone is renamed once, at its beginning"
    )


@pytest.mark.parametrize(
    ("name", "package", "reason"),
    [
        ("", "orders", "must be a DNS label"),
        ("Orders", "orders", "must be a DNS label"),
        ("orders_api", "orders", "must be a DNS label"),
        ("-orders", "orders", "must be a DNS label"),
        ("orders-", "orders", "must be a DNS label"),
        ("o" * 41, "orders", "must be a DNS label of at most 40 characters"),
        ("orders-api", "", "must be a Python name"),
        ("orders-api", "orders-api", "must be a Python name"),
        ("orders-api", "class", "must be a Python name"),
        ("orders-api", "email", "would hide the installed module"),
        ("orders-api", "sqlalchemy", "would hide the installed module"),
        ("orders-api", "chassis", "the project has a chassis already"),
        ("orders-api", "config", "the project has a config already"),
    ],
)
def test_names_that_cannot_be_are_refused_in_one_line(fresh, name, package, reason):
    assert reason in refusal(fresh, name, package)


@pytest.mark.parametrize("owner", ["", "acme/team", "-acme", "acme-", "a" * 40])
def test_an_owner_that_has_no_account_is_refused(fresh, owner):
    assert "must be an account of GitHub" in refusal(fresh, "orders-api", "orders", owner)


def test_work_that_is_not_committed_is_safe(tmp_path):
    folder = clone(tmp_path)
    (folder / "README.md").write_text("Mine.\n")

    assert "Commit or stash" in refusal(folder, "orders-api", "orders")
    assert (folder / "README.md").read_text() == "Mine.\n"


@pytest.mark.parametrize("is_ours", [True, False], ids=["beside ours", "alone"])
def test_later_changes_of_the_template_are_merged(tmp_path, is_ours):
    template, folder = clone(make_folder(tmp_path / "template")), tmp_path / "clone"
    git(template, "branch", "--move", "main")
    git(tmp_path, "clone", "--quiet", template, folder)
    (folder / LINK).symlink_to(ENVIRONMENT)
    once, each_time = steps_of("Take later changes", template)
    checked(folder, *MAKE, "rename", "name=orders-api", "package=orders", "owner=acme")
    commit(folder)
    checked(folder, "sh", "-ec", once)
    if is_ours:
        append(folder / "orders" / "users" / "policy.py", "OURS = 1\n")
        commit(folder)
    append(template / "userservice" / "users" / "errors.py", "# Of the userservice\n")
    commit(template)

    checked(folder, "sh", "-ec", each_time)

    assert (folder / "orders" / "users" / "errors.py").read_text().endswith("# Of the orders\n")
    assert ("OURS" in (folder / "orders" / "users" / "policy.py").read_text()) == is_ours
    assert git(folder, "status", "--porcelain") == ""


def make_folder(path):
    path.mkdir()
    return path


def append(file, text):
    file.write_text(file.read_text() + text)


def steps_of(heading, template):
    """Return the two scripts below a heading of CONTRIBUTING.md, as they go without the network."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {heading}\n")[2]
    identity = " ".join(f"GIT_{name}=t" for name in IDENTITY)
    for script in SCRIPT.findall(text.partition("\n## ")[0]):
        quick = script.replace("make check\n", "").replace(" && make format docs", "")
        local = re.sub(r"https://\S+", str(template), quick)
        yield f"export {identity}\n" + local.replace("make ", " ".join(MAKE) + " ")


def test_columns_behind_a_name_stay_where_they_are():
    names = Names(name="orders-api", package="orders", owner="acme")

    assert names.put_into("userservice/users/     a package") == "orders/users/          a package"
    assert names.put_into("app=cloudnative-app  # ours") == "app=orders-api  # ours"
