"""The image: one name everywhere, and a Dockerfile whose layers stay equal."""

from __future__ import annotations

import re

import pytest
import yaml

from config import AppConfig
from tests.support import kustomize
from tests.support.kustomize import containers
from tests.support.manifests import OUR_IMAGE, ROOT

NAME = f"{OUR_IMAGE}:development"
FACTS = ("BUILD_DATE", "BUILD_VERSION", "BUILD_COMMIT")


INSTRUCTION = re.compile(r"^[A-Z]+ (?:.*\\\n)*.*$", re.MULTILINE)


def stages():
    """Return name -> the instructions of each stage of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    parts = re.split(r"^FROM \S+ AS (\w+)\n", text, flags=re.MULTILINE)
    return {
        name: INSTRUCTION.findall(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.fixture(scope="module")
def runtime():
    """The instructions of the stage that ships."""
    return stages()["runtime"]


def test_one_name_is_built_composed_and_deployed():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    objects = kustomize.render(ROOT / "k8s" / "overlays" / "development")
    source = (ROOT / "tests" / "support" / "containers.py").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    composed = {each["image"] for each in compose["services"].values() if "build" in each}
    deployed = {each["image"] for each in containers(objects) if OUR_IMAGE in each["image"]}

    assert composed == deployed == {NAME}
    assert f'os.environ.get("IMAGE", "{NAME}")' in source
    assert f"kind load docker-image {NAME}\n" in guide
    assert f"minikube image load {NAME}\n" in guide


def test_what_a_build_changes_each_time_comes_last(runtime):
    changing = [number for number, each in enumerate(runtime) if any(f in each for f in FACTS)]
    making = [number for number, each in enumerate(runtime) if each.startswith(("RUN", "COPY"))]

    assert len(changing) == len(FACTS) + 2  # ENV and LABEL
    assert min(changing) > max(making)


def test_every_step_that_makes_files_fixes_their_times(runtime):
    steps = [each for each in stages()["builder"] + runtime if each.startswith("RUN ")]

    assert len(steps) == 3
    assert [each for each in steps if "touch --no-dereference --date=@0" not in each] == []


def test_without_an_environment_it_serves_where_it_may_write_and_production_refuses(runtime):
    (given,) = (each for each in runtime if "REDIS_URL" in each)
    variables = dict(re.findall(r"(\w+)=(\S*)", given))
    alone = {name: variables[name] for name in ("DATABASE_URL", "REDIS_URL")}

    config = AppConfig.from_env(alone)
    refused = pytest.raises(ValueError, match="DATABASE_URL must name a PostgreSQL database")

    assert (config.database_url, config.redis_url) == ("sqlite:////tmp/app.db", "")
    with refused:
        AppConfig.from_env(alone | {"ENVIRONMENT": "production"})
