"""The script for a cluster of kind, run with a cluster that agrees to all that kubectl can ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support import kustomize
from tests.support.manifests import ROOT, of_kind

KUBECTL = shutil.which("kubectl")
OVERLAY = ROOT / "k8s" / "overlays" / "development"
# Writes down how it was called. kubectl itself says whether it knows the verb and the options.
PROGRAM = f"""\
#!{sys.executable}
import json, os, subprocess, sys

name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([name, *arguments]) + "\\n")
if name == "kubectl":
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    subprocess.run([{KUBECTL!r}, *own, "--help"], check=True, stdout=subprocess.DEVNULL)
    if "logs" in own:
        print(os.environ["ANSWERS"])
"""
ANSWERED = "\n".join(["200"] * 101)

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


@pytest.fixture
def run(tmp_path):
    """Run the script; return how it ended, and the calls of kind and kubectl."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("kind", "kubectl"):
        (programs / name).write_text(PROGRAM, encoding="utf-8")
        (programs / name).chmod(0o755)
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci" / "cluster", tmp_path / ".ci")
    calls = tmp_path / "calls"

    def run(answers=ANSWERED, **variables):
        path = f"{programs}:{os.environ['PATH']}"
        environment = {"PATH": path, "CALLS": str(calls), "ANSWERS": answers} | variables
        result = subprocess.run(
            [script], env=environment, capture_output=True, text=True, check=False
        )
        return result, [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def test_kubectl_knows_all_that_it_is_asked_for(run):
    result, calls = run()

    assert result.returncode == 0, result.stdout + result.stderr
    assert [call[:3] for call in calls if call[0] == "kind"] == [
        ["kind", "create", "cluster"],
        ["kind", "load", "docker-image"],
        ["kind", "delete", "cluster"],
    ]
    verbs = [" ".join(call) for call in calls]
    assert sum(" apply " in each for each in verbs) == 2
    assert all(any(verb in each for each in verbs) for verb in (" diff ", " undo ", " --deploy"))


def test_what_it_names_is_in_the_overlay(run):
    objects = kustomize.render(OVERLAY)
    (namespace,) = of_kind(objects, "Namespace")
    names = {f"deployment/{each['metadata']['name']}" for each in of_kind(objects, "Deployment")}

    _, calls = run()

    named = [call for call in calls if any(each.startswith("deployment/") for each in call)]
    assert len(named) > 5
    for call in named:
        assert call[call.index("--namespace") + 1] == namespace["metadata"]["name"]
        assert {each for each in call if each.startswith("deployment/")} <= names


@pytest.mark.parametrize(
    "answers", [f"{ANSWERED}\n503", "200"], ids=["a call that fails", "too few calls"]
)
def test_a_rollout_that_is_noticed_fails_and_leaves_no_cluster(run, answers):
    result, calls = run(answers)

    assert result.returncode == 1
    assert calls[-1][:3] == ["kind", "delete", "cluster"]


def test_a_cluster_may_be_kept_for_a_look_at_it(run):
    _, calls = run(KEEP="1")

    assert "delete" not in [word for call in calls for word in call[:3]]
