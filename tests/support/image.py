"""Builds the image and runs it as the cluster would; see `make image` and what follows it.

    python -m tests.support.image build | again | test | report

Works with docker, podman, or buildah and podman, whichever is there. IMAGE names the image;
BUILD_FLAGS and RUN_FLAGS are passed on to the program, for what a machine needs.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime

from tests.support.containers import (
    IMAGE,
    builder,
    engine,
    expect,
    output,
    run,
    run_flags,
    say,
)
from tests.support.image_alone import try_alone
from tests.support.image_deployed import try_deployed
from tests.support.manifests import ROOT


def build(target: str = "runtime", *, tag: str = IMAGE, cached: bool = True) -> None:
    """Build a stage of the Dockerfile."""
    facts = {
        "BUILD_VERSION": os.environ.get("VERSION") or git("describe", "--tags", "--always"),
        "BUILD_COMMIT": git("rev-parse", "HEAD"),
        "BUILD_DATE": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    arguments = [f"--build-arg={name}={value}" for name, value in facts.items()]
    if base := os.environ.get("PYTHON_IMAGE"):
        arguments.append(f"--build-arg=PYTHON_IMAGE={base}")
    if engine() != "docker":
        # The other format knows no HEALTHCHECK. Folders that a step copies into get a time, too.
        arguments += ["--format=docker", "--layers", "--timestamp=0"]
    if not cached:
        arguments.append("--no-cache")
    flags = shlex.split(os.environ.get("BUILD_FLAGS", ""))
    run(builder(), "build", *flags, *arguments, "--target", target, "--tag", tag, ".")
    report_size()


def build_again() -> None:
    """Build another version without a cache, and expect the same layers.

    Raises:
        AssertionError: one differs, although nothing has changed but the version and the time.
    """
    again = f"{IMAGE}-again"
    os.environ["VERSION"] = "again"
    build(tag=again, cached=False)
    first, second = (layers(each) for each in (IMAGE, again))
    for one, other in zip(first, second, strict=True):
        say(f"{one} {'equal' if one == other else f'differs from {other}'}")
    output("image", "rm", again)
    expect(first == second, "layers differ")


def layers(image: str) -> list[str]:
    """Return the digests of an image's layers, the base's first."""
    return list(json.loads(output("image", "inspect", "--format={{json .RootFS.Layers}}", image)))


def report() -> None:
    """Print the size and the largest parts."""
    report_size()
    folders = "/opt/venv/lib/python3*/site-packages/* /opt/venv /app"
    script = f"du -sk {folders} | sort -rn | head -25"
    sys.stdout.write(output("run", "--rm", *run_flags(), IMAGE, "sh", "-c", script))


def report_size() -> None:
    """Print how large the image is."""
    say(f"{IMAGE}: {int(output('image', 'inspect', '--format={{.Size}}', IMAGE)) / 1e6:.0f} MB")


def test() -> None:
    """Run every process as the deployment does, and as somebody does who has read nothing.

    Raises:
        AssertionError: something is not as it should be.
    """
    try_deployed()
    try_alone()
    say("All processes ran as the manifests say, and without any")


def git(*arguments: str) -> str:
    """Ask git; what is built outside of a clone is unknown."""
    result = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    commands = {"build": build, "again": build_again, "test": test, "report": report}
    commands[sys.argv[1]](*sys.argv[2:])
