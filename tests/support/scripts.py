"""The scripts of the workflows: `make manifests` writes a file of each for shellcheck.

python -m tests.support.scripts build/scripts
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.manifests import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
# As GitHub runs a step whose shell is called bash.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
HEAD = "#!/usr/bin/env bash\nset -eo pipefail\n"


class Script(NamedTuple):
    """The script of a step, under the name of its workflow, its job and its place."""

    name: str
    text: str


def load(workflow: Path) -> dict[str, Any]:
    """Return a workflow; YAML takes the word `on` for true."""
    text = workflow.read_text(encoding="utf-8")
    return dict(yaml.safe_load(re.sub(r"^on:", '"on":', text, flags=re.MULTILINE)))


def scripts() -> Iterator[Script]:
    """Yield the script of each step that has one."""
    for workflow in WORKFLOWS:
        for job, parts in load(workflow)["jobs"].items():
            for number, step in enumerate(parts.get("steps", []), 1):
                if "run" in step:
                    yield Script(f"{workflow.stem}-{job}-{number}", step["run"])


def main(folder: Path) -> None:
    """Write each script into a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.sh"):
        old.unlink()
    for script in scripts():
        (folder / f"{script.name}.sh").write_text(f"{HEAD}{script.text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
