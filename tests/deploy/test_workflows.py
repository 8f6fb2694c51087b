"""The workflows: valid, without rights that they need not, and a release of what was tested."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.support.manifests import ROOT
from tests.support.scripts import WORKFLOWS, load

FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "github-issue-forms": [FORMS / "bug.yaml", FORMS / "proposal.yaml"],
    "github-issue-config": [FORMS / "config.yaml"],
    "renovate": [ROOT / "renovate.json"],
}
# Rights that a job may have, beside reading the code.
RIGHTS = {
    "build.yaml": {"packages: write"},
    "publish.yaml": {"packages: write", "id-token: write", "attestations: write"},
    "release.yaml": {
        *("packages: write", "id-token: write", "attestations: write"),
        "contents: write",
    },
    "weekly.yaml": {
        *("packages: write", "id-token: write", "attestations: write"),
        "packages: read",
    },
}


@pytest.fixture(scope="module")
def workflows():
    """Name -> workflow."""
    return {each.name: load(each) for each in WORKFLOWS}


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def scripts_of(job):
    return "\n".join(step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]

    result = subprocess.run(
        [*command, *SCHEMAS[schema]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout


def test_every_action_is_pinned_to_a_commit():
    text = "".join(each.read_text(encoding="utf-8") for each in WORKFLOWS)

    actions = re.findall(r"uses: (?!\./)(.*)", text)

    assert len(actions) > 10
    assert [each for each in actions if not re.search(r"@[0-9a-f]{40}  # v\d", each)] == []
    assert len(set(actions)) == len({each.partition("@")[0] for each in actions})


def test_no_checkout_keeps_the_credentials(workflows):
    checkouts = [
        step["with"]
        for each in workflows.values()
        for step in steps_of(each)
        if step.get("uses", "").startswith("actions/checkout@")
    ]

    assert len(checkouts) >= len(WORKFLOWS)
    assert all(each["persist-credentials"] is False for each in checkouts)


def test_no_job_has_more_rights_than_it_is_known_to_need(workflows):
    for name, workflow in workflows.items():
        given = {
            f"{right}: {level}"
            for job in workflow["jobs"].values()
            for right, level in job.get("permissions", {}).items()
        }
        assert given - {"contents: read"} <= RIGHTS.get(name, set()), name
        assert workflow["permissions"] in ({}, {"contents": "read"}), name


def test_every_job_ends_by_itself(workflows):
    endless = [
        name
        for each in workflows.values()
        for name, job in each["jobs"].items()
        if "timeout-minutes" not in job and "uses" not in job
    ]

    assert endless == []


def test_the_digest_that_was_tested_is_the_one_that_is_tagged(workflows):
    build = workflows["build.yaml"]["jobs"]["build"]
    tag = workflows["publish.yaml"]["jobs"]["tag"]
    pushing = [step for step in build["steps"] if "build-push-action" in step.get("uses", "")]
    (index,) = (step for step in tag["steps"] if step.get("id") == "index")

    (pushed,) = pushing
    assert "push-by-digest=true" in pushed["with"]["outputs"]
    assert "tags" not in pushed["with"]
    assert build["steps"][-1]["env"]["DIGEST"] == "${{ steps.build.outputs.digest }}"
    assert 'make image-test image-report PYTHON=python IMAGE="$IMAGE@$DIGEST"' in scripts_of(build)
    assert index["env"]["AMD64"] == "${{ needs.amd64.outputs.digest }}"
    assert index["env"]["ARM64"] == "${{ needs.arm64.outputs.digest }}"
    assert [step for step in tag["steps"] if "build" in step.get("uses", "").split("/")[1:2]] == []


def test_each_architecture_is_built_and_tested_on_its_own_machine(workflows):
    jobs = workflows["publish.yaml"]["jobs"]

    machines = {name: (jobs[name]["with"]["runner"], jobs[name]["with"]["platform"])
                for name in ("amd64", "arm64")}  # fmt: skip

    assert machines == {
        "amd64": ("ubuntu-24.04", "linux/amd64"),
        "arm64": ("ubuntu-24.04-arm", "linux/arm64"),
    }
    assert jobs["amd64"]["with"]["base"] == jobs["arm64"]["with"]["base"]


def test_a_release_takes_nothing_from_a_cache(workflows):
    for name in ("build.yaml", "publish.yaml", "release.yaml", "weekly.yaml"):
        for step in steps_of(workflows[name]):
            assert not {"cache-from", "cache-to", "cache"} & set(step.get("with", {})), name


def test_nothing_is_published_before_all_checks_have_passed(workflows):
    jobs = workflows["release.yaml"]["jobs"]

    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yaml"
    assert "workflow_call" in workflows["ci.yaml"]["on"]
    assert jobs["approve"]["needs"] == "ci"
    assert jobs["approve"]["environment"] == "release"
    assert "approve" in jobs["publish"]["needs"]
    assert "publish" in jobs["notes"]["needs"]


def test_called_workflows_exist_and_get_all_that_they_require(workflows):
    for each in workflows.values():
        for job in each["jobs"].values():
            if "uses" in job:
                called = workflows[job["uses"].removeprefix("./.github/workflows/")]
                inputs = (called["on"]["workflow_call"] or {}).get("inputs", {})
                assert set(job.get("with", {})) == set(inputs)


def test_what_is_needed_is_a_job(workflows):
    for each in workflows.values():
        for name, job in each["jobs"].items():
            needs = job.get("needs", [])
            assert {*([needs] if isinstance(needs, str) else needs)} <= set(each["jobs"]) - {name}
            text = yaml.safe_dump(job)
            assert set(re.findall(r"\bneeds\.(\w+)\.", text)) <= {
                *([needs] if isinstance(needs, str) else needs)
            }


def test_commands_of_make_are_there(workflows):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    scripts = "\n".join(
        step.get("run", "") for each in workflows.values() for step in steps_of(each)
    )

    named = {
        word
        for line in re.findall(r"\bmake (.*)", scripts)
        for word in line.split()
        if re.fullmatch(r"[a-z-]+", word)
    }

    assert {"check", "manifests", "image-test"} <= named <= targets


def test_every_line_about_owners_is_about_files_that_exist():
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    patterns = [line.split()[0] for line in lines if line.startswith("/")]

    assert len(patterns) > 5
    assert [each for each in patterns if not [*ROOT.glob(each.strip("/"))]] == []


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda each: each.name)
def test_a_script_can_be_run_and_is_well_formed(script):
    result = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stderr) == (0, "")
    assert os.access(script, os.X_OK)


def test_the_cluster_runs_what_the_overlay_names():
    script = (ROOT / ".ci" / "cluster").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    secrets = re.findall(r"--from-literal=(\w+)", script)

    assert "image=cloudnative-user-api:development\n" in script
    assert "resources: [../../k8s/overlays/development]" in script
    assert {"password", "DATABASE_URL", "REDIS_URL", "API_KEY", "JWT_SECRET"} == set(secrets)
    assert all(f"--from-literal={each}=" in guide for each in secrets)


def test_kustomize_makes_the_overlay_of_the_cluster():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    script = (ROOT / ".ci" / "cluster").read_text(encoding="utf-8")
    (plan,) = re.findall(r"<<-YAML\n(.*?)^YAML$", script, re.MULTILINE | re.DOTALL)
    folder = ROOT / "build" / "cluster-test"
    folder.mkdir(parents=True)
    try:
        text = plan.replace("\t", "").replace("$namespace", "cloudnative-app-development")
        (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
        result = subprocess.run(
            [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(folder)

    assert result.returncode == 0, result.stderr
    assert 'DRAIN_SECONDS: "5"' in result.stdout
