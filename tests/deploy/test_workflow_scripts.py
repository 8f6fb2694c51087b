"""The scripts of the workflows, run as GitHub would, on a repository of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.support.clone import git
from tests.support.processes import ROOT
from tests.support.scripts import BASH, WORKFLOWS, load, scripts

SCRIPTS = {script.name: script.text for script in scripts()}
CHANGES = "# Changelog\n\n## Unreleased\n" + "".join(
    f"\n## {version} - 2026-01-31\n\n- Words of {version}.\n"
    for version in ("0.10.0", "0.9.1", "0.9.0")
)
FAILING = "#!/bin/sh\nexit 1\n"


@pytest.fixture
def repository(tmp_path):
    """A repository with three releases."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "release.py", tmp_path / "tools")
    (tmp_path / "CHANGELOG.md").write_text(CHANGES, encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, *("-c", "user.name=t", "-c", "user.email=t@example.com"), "commit", "-qm", "a")
    for version in ("0.9.0", "0.10.0", "0.9.1"):
        git(tmp_path, "tag", f"v{version}")
    return tmp_path


def run(name, folder, **variables):
    """Run a script; return how it ended, and what it hands to later steps and jobs."""
    handed = folder / "handed"
    handed.touch()
    variables |= {"GITHUB_OUTPUT": str(handed), "GITHUB_ENV": str(handed)}
    result = subprocess.run(
        [*BASH, "-c", SCRIPTS[name]],
        cwd=folder,
        env={"PATH": os.environ["PATH"]} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = handed.read_text(encoding="utf-8").splitlines()
    return result, dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_well_formed_and_holds_no_expression(name):
    """An expression would put a text of somebody else into it; `env` hands it over."""
    result = subprocess.run(
        ["bash", "-n"], input=SCRIPTS[name], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "${{" not in SCRIPTS[name]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda each: each.stem)
def test_a_pipe_fails_where_any_of_its_commands_does(workflow):
    shells = set(re.findall(r"\bshell: (\S+)", workflow.read_text(encoding="utf-8")))

    assert load(workflow)["defaults"]["run"] == {"shell": "bash"}
    assert shells == {"bash"}
    assert "bash -c" not in workflow.read_text(encoding="utf-8")  # bash -o pipefail -c


@pytest.mark.parametrize("name", ["publish-base-1", "publish-tag-3"])
def test_a_registry_that_does_not_answer_is_noticed(name, tmp_path):
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    docker = tmp_path / "docker"
    docker.write_text(FAILING, encoding="utf-8")
    docker.chmod(0o755)

    variables = {"IMAGE": "a", "TAGS": "1.2.3", "AMD64": "sha256:a", "ARM64": "sha256:b"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    result, _ = run(name, tmp_path, PATH=path, **variables)

    assert result.returncode != 0


@pytest.mark.parametrize(
    ("tag", "tags"),
    [("v0.10.0", "0.10.0 0.10 latest"), ("v0.9.1", "0.9.1 0.9")],
)
def test_latest_is_the_newest_release_and_no_repair_of_an_older_one(tag, tags, repository):
    result, facts = run("release-facts-2", repository, GITHUB_REF_NAME=tag)

    assert result.returncode == 0, result.stderr
    assert facts == {"version": tag.removeprefix("v"), "tags": tags}
    assert f"Words of {tag.removeprefix('v')}." in result.stdout


@pytest.mark.parametrize("tag", ["v0.11.0", "v1", "vnext"])
def test_a_tag_without_a_section_in_the_changelog_is_no_release(tag, repository):
    git(repository, "tag", tag)

    result, facts = run("release-facts-2", repository, GITHUB_REF_NAME=tag)

    assert (result.returncode, facts) == (1, {})


def test_the_newest_release_is_rebuilt_under_its_day(repository):
    result, facts = run("weekly-newest-2", repository)

    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"0\.10\.0-20\d{6}", facts.pop("rebuilt"))
    assert re.fullmatch(r"0\.10\.0-20\d{6} 0\.10 latest", facts.pop("tags"))
    assert facts == {"ref": "v0.10.0", "version": "0.10.0"}


def test_where_nothing_was_released_nothing_is_rebuilt(repository):
    for version in ("0.9.0", "0.10.0", "0.9.1"):
        git(repository, "tag", "--delete", f"v{version}")

    result, facts = run("weekly-newest-2", repository)

    assert (result.returncode, facts) == (0, {})


@pytest.mark.parametrize(
    "name", [name for name, text in SCRIPTS.items() if "ghcr.io" in text and "GITHUB_ENV" in text]
)
def test_an_image_has_the_name_of_its_repository_in_small_letters(name, tmp_path):
    result, facts = run(name, tmp_path, GITHUB_REPOSITORY="Acme/Orders-API")

    assert result.returncode == 0, result.stderr
    assert facts == {"IMAGE": "ghcr.io/acme/orders-api"}


def test_every_job_that_names_an_image_has_its_name_in_small_letters():
    for workflow in WORKFLOWS:
        for name, job in load(workflow)["jobs"].items():
            runs = [step.get("run", "") for step in job.get("steps", [])]
            if any("$IMAGE" in run for run in runs) or "env.IMAGE" in str(job):
                assert any("GITHUB_REPOSITORY,," in run for run in runs), (workflow.name, name)
