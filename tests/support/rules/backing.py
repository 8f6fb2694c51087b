"""Rules about the backing services that the overlay for development brings along."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tests.support.kustomize import Object, pod_specs
from tests.support.manifests import name
from tests.support.rules.environment import needed_connections
from tests.support.rules.pods import amount

MEMORY_SHARE = Decimal("0.8")  # Redis needs some beside its data
MEGABYTE = 2**20


def data_folders(objects: list[Object]) -> Iterator[str]:
    """Expect PostgreSQL's data on its volume."""
    for owner, template in pod_specs(objects):
        for container in template["spec"]["containers"]:
            mounts = [each["mountPath"] for each in container.get("volumeMounts", [])]
            for each in container.get("env", []):
                if each["name"] == "PGDATA" and not any(
                    each["value"].startswith(f"{m}/") for m in mounts
                ):
                    yield f"{name(owner)}: {each['value']} is on no volume"


def capacities(objects: list[Object]) -> Iterator[str]:
    """Expect room for all connections in PostgreSQL, and for Redis' data below its limit."""
    for owner, template in pod_specs(objects):
        for container in template["spec"]["containers"]:
            arguments = container.get("args", [])
            for given in (each for each in arguments if each.startswith("max_connections=")):
                needed = needed_connections(objects)
                if int(given.partition("=")[2]) < needed:
                    yield f"{name(owner)}: {given}, and {needed} are opened"
            if "--maxmemory" in arguments:
                given = arguments[arguments.index("--maxmemory") + 1].removesuffix("mb")
                limit = amount(container["resources"]["limits"]["memory"])
                if int(given) * MEGABYTE > limit * MEMORY_SHARE:
                    yield f"{name(owner)}: {given} MB of data, and a limit of {limit} bytes"


RULES = [data_folders, capacities]
