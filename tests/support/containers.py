"""Runs the image, and containers as manifests describe them, with docker or podman.

IMAGE names the image; RUN_FLAGS are passed on to the program, for what a machine needs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import uuid4

from tests.support.kustomize import Object, find
from tests.support.manifests import ROOT

IMAGE = os.environ.get("IMAGE", "cloudnative-user-api:development")


@contextmanager
def container(objects: list[Object], owner: Object, made_up: dict[str, str]) -> Iterator[str]:
    """Run the container of a workload in the background; yield its name."""
    name = f"image-test-{uuid4().hex[:8]}"
    output("run", "--detach", "--name", name, *arguments(objects, owner, "containers", made_up))
    try:
        yield name
    except BaseException:
        say(output("logs", name)[-4000:])
        raise
    finally:
        output("rm", "--force", name)


def run_to_end(objects: list[Object], owner: Object, kind: str, made_up: dict[str, str]) -> str:
    """Run a container of a workload until it exits with 0; return what it printed."""
    return output("run", "--rm", *arguments(objects, owner, kind, made_up), only_stdout=True)


def arguments(
    objects: list[Object], owner: Object, kind: str, made_up: dict[str, str]
) -> list[str]:
    """Say what the manifest says, in the words of `docker run`."""
    spec = owner["spec"]["template"]["spec"]
    (given,) = spec[kind]
    user = spec["securityContext"]
    limits = given["resources"]["limits"]
    result = [*run_flags(), "--pull=never", "--network=host", "--security-opt=no-new-privileges"]
    result += [f"--user={user['runAsUser']}:{user['runAsGroup']}"]
    result += [f"--cap-drop={each}" for each in given["securityContext"]["capabilities"]["drop"]]
    result += [f"--memory={limits['memory'].lower().removesuffix('i')}"]
    result += [f"--cpus={int(limits['cpu'].removesuffix('m')) / 1000}"]
    if given["securityContext"]["readOnlyRootFilesystem"]:
        result += ["--read-only"]
        result += ["--read-only-tmpfs=false"] if engine() == "podman" else []
    sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in spec["volumes"]}
    for mount in given["volumeMounts"]:
        size = sizes[mount["name"]].lower().removesuffix("i")
        result += [f"--tmpfs={mount['mountPath']}:rw,size={size},mode=1777"]
    for name, value in environment(objects, given, made_up).items():
        result += [f"--env={name}={value}"]
    return [*result, IMAGE, *given["command"]]


def environment(objects: list[Object], given: Object, made_up: dict[str, str]) -> dict[str, str]:
    """Return the variables of a container."""
    result: dict[str, str] = {}
    for source in given["envFrom"]:
        if "configMapRef" in source:
            result |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    result |= {each["name"]: each.get("value", "made-up") for each in given.get("env", [])}
    return result | {
        name: value
        for name, value in made_up.items()
        if name in result or name != "WORKER_METRICS_PORT"
    }


def setting(name: str) -> Any:
    """Return what the image says of itself under a name: User, Labels and so on."""
    return json.loads(output("image", "inspect", f"--format={{{{json .Config.{name}}}}}", IMAGE))


@cache
def engine() -> str:
    """Return the program that runs containers: docker if its engine answers, else podman."""
    docker = shutil.which("docker")
    if (
        docker
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    ):
        return "docker"
    if shutil.which("podman"):
        return "podman"
    sys.exit("Needs docker with a running engine, or podman")


def builder() -> str:
    """Return the program that builds images."""
    return "buildah" if engine() == "podman" and shutil.which("buildah") else engine()


def run_flags() -> list[str]:
    """Return what this machine needs for running a container."""
    return shlex.split(os.environ.get("RUN_FLAGS", ""))


def exit_code(*command: str) -> int:
    """Run the engine; return how it ended."""
    return _ask_engine(command).returncode


def output(*command: str, only_stdout: bool = False) -> str:
    """Run the engine; return what it prints, without its last line end."""
    result = _ask_engine(command)
    expect(result.returncode == 0, f"{command}: {result.stdout}{result.stderr}")
    is_log = command[0] == "logs" and not only_stdout
    return (result.stdout + (result.stderr if is_log else "")).strip()


def _ask_engine(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [engine(), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),  # podman leaves a file there when memory runs out
    )


def run(*command: str) -> None:
    """Run a program that prints for itself."""
    result = subprocess.run(command, cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(result.returncode)


def expect(is_so: bool, otherwise: object) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise AssertionError unless something is so."""
    if not is_so:
        raise AssertionError(otherwise)


def say(sentence: str) -> None:
    """Print a line at once."""
    print(sentence, flush=True)  # noqa: T201 - this is a program
