"""Every command that a document shows is one that works, on objects that are there."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.support import kustomize
from tests.support.commands import kubectl, service
from tests.support.commands.found import Command, commands_in, every_command
from tests.support.manifests import of_kind
from tests.support.processes import ROOT

VERB_ALONE = 3  # words of `kubectl rollout undo`


@pytest.fixture(scope="module")
def overlays():
    """The rendered objects of each overlay, by namespace."""
    rendered = map(kustomize.render, sorted((ROOT / "k8s" / "overlays").iterdir()))
    return {of_kind(objects, "Namespace")[0]["metadata"]["name"]: objects for objects in rendered}


def faults(command, overlays):
    """Return what is wrong with a command."""
    program, *rest = command.words
    if program == "kubectl":
        return kubectl_faults(command, overlays)
    checks = {
        "python": lambda words: service.service_faults(words[1:], is_typed=command.is_typed),
        "admin": lambda words: service.admin_faults(words, is_typed=command.is_typed),
        "make": service.make_faults,
        "docker": service.docker_faults,
        "kustomize": service.kustomize_faults,
        "sh": service.shell_faults,
    }
    check = checks.get(program)  # a pod may run others, such as a shell
    return check(tuple(rest)) if check else []


def kubectl_faults(command, overlays):
    """Return what is wrong with a command of kubectl, and with what it runs in a pod."""
    if command.is_mention and len(command.words) <= VERB_ALONE:
        return []
    found = kubectl.faults(command.words, command.folder, overlays)
    return found + inner_faults(command, overlays)


def inner_faults(command, overlays):
    """Return what is wrong with the command that runs in the pod."""
    if "--" not in command.words:
        return []
    inner = command.words[command.words.index("--") + 1 :]
    return faults(command._replace(words=inner), overlays)


@pytest.mark.parametrize("command", every_command(), ids=str)
def test_a_command_in_a_document_is_right(command, overlays):
    assert faults(command, overlays) == []


def test_documents_show_commands_of_every_kind():
    programs = [command.words[0] for command in every_command()]

    assert programs.count("kubectl") > 30
    assert programs.count("python") > 30
    assert {"docker", "admin", "make", "kustomize"} <= set(programs)


KUBECTL = "kubectl --namespace cloudnative-app"
SUSPEND = f"{KUBECTL} patch cronjob cloudnative-app-cleanup"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("kubectl get pods -l app.kubernetes.io/component=worker", "has the namespace ''"),
        ("kubectl --namespace default get pods -l a=b", "no overlay has the namespace 'default'"),
        (f"{KUBECTL} get pods -l app=cloudnative-app", "nothing has the labels app="),
        (f"{KUBECTL} logs --previous", "logs names nothing"),
        (f"{KUBECTL} describe pod", "describe names no Pod"),
        (f"{KUBECTL} get deployment/web", "no Deployment web"),
        (f"{KUBECTL} get daemonset a", "no kind daemonset"),
        (f"{KUBECTL} logs deployment/cloudnative-app -c web", "may be an old one"),
        (f"{KUBECTL} logs POD -c app", "no container app among"),
        (f"{KUBECTL} logs -l app.kubernetes.io/component=worker -c web", "no container"),
        (f"{KUBECTL} logs POD --last", "no option --last"),
        (f"{KUBECTL} scale deployment cloudnative-app --previous", "scale has no"),
        (f"{KUBECTL} roll back", "no verb roll back"),
        (f"{KUBECTL} create job now --from=cronjob/cleanup", "no CronJob cleanup"),
        (f"{KUBECTL} create secret generic secrets --from-literal=A=b", "no Secret"),
        (SUSPEND + """ --patch '{"spec": {"stop": true}}'""", "stop"),
        (SUSPEND + " --patch spec.suspend=true", "is no JSON"),
        (
            f"{KUBECTL} create secret generic cloudnative-app-secrets --from-literal=JWT_SECRT=a",
            "no pod reads JWT_SECRT",
        ),
        (f"{KUBECTL} exec POD -- python app.py admin inspect", "admin has no inspect"),
        (f"{KUBECTL} exec POD -- sh -c 'kill -USR3 1'", "no signal that it hears"),
        ("kubectl apply -k k8s/overlays/staging", "there is no k8s/overlays/staging"),
        ("kubectl apply -f -k", "there is no -k"),
        ("python app.py web", "app.py has no web"),
        ("python app.py admin outbox lst", "admin has no outbox lst"),
        ("python app.py admin cleanup --day 30", "No such option"),
        ("python app.py admin outbox list --status gone", "status: not gone"),
        ("python app.py admin check now", "check takes no now"),
        ("make manifest", "make has no manifest"),
        ("docker compose logs collectors", "compose.yaml has no collectors"),
        ("docker compose up --waiting", "compose up has no --waiting"),
        ("docker run user-api", "no image of ours"),
        ("kustomize edit set image user-api=b", "no image user-api=b"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_found(line, fault, overlays):
    (command,) = commands_in(f"```sh\n{line}\n```\n")

    assert [each for each in faults(command, overlays) if fault in each] != []


def test_commands_are_found_in_blocks_and_sentences():
    text = """Run `kubectl
get pods`, and not `kubectl` alone:

   ```sh
   cd k8s/overlays/production
   A=b python app.py admin check --deploy   # a comment
   test -s a && kubectl diff -k . ; kubectl apply \\
     -k .
   admin completion fish > file
   ls
   ```
"""

    found = list(commands_in(text))

    assert [" ".join(command.words) for command in found] == [
        "python app.py admin check --deploy",
        "kubectl diff -k .",
        "kubectl apply -k .",
        "admin completion fish",
        "kubectl get pods",
    ]
    assert [command.folder.name for command in found[:2]] == ["production", "production"]
    assert [command.is_typed for command in found] == [True] * 4 + [False]


def test_the_words_of_a_decision_may_name_a_verb_alone(overlays):
    (command,) = commands_in("`kubectl rollout undo`", "docs/adr/0001-a.md")

    assert faults(command, overlays) == []
    assert faults(command._replace(is_mention=False), overlays) != []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("verb", kubectl.VERBS)
def test_options_are_those_of_kubectl_itself(verb):
    command = ["kubectl", *verb.split(), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    options = dict(re.findall(r"^ +(?:-\w, )?(--[\w-]+)=(.*):$", result.stdout, re.MULTILINE))

    assert kubectl.VERBS[verb].keys() - options.keys() == set()
    for option, takes_a_value in kubectl.VERBS[verb].items():
        assert (options[option] not in {"true", "false"}) is takes_a_value, option


def test_a_command_says_where_it_stands():
    command = Command("docs/a.md", ROOT, ("make", "a b"), is_mention=False, is_typed=True)

    assert str(command) == "docs/a.md: make 'a b'"
