"""All rules about what an overlay renders, and about an example beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.support import manifests
from tests.support.kustomize import Object
from tests.support.rules import (
    backing,
    environment,
    examples,
    names,
    network,
    pods,
    probes,
    ways_in,
    workloads,
)

SUBJECTS = [pods, probes, workloads, names, environment, backing, network]
# The schemas come last: they take the longest, and one finding is enough for a fault.
RULES: list[Callable[[list[Object]], Iterator[str]]] = [
    *(rule for subject in SUBJECTS for rule in subject.RULES),
    *(check for check in manifests.CHECKS if check is not manifests.check_schema),
    manifests.check_schema,
]


def findings(objects: list[Object]) -> Iterator[str]:
    """Yield all that is wrong with what an overlay renders, each behind the name of its rule."""
    for rule in RULES:
        yield from _told(rule, objects)


def findings_of_example(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Yield all that is wrong with an example, deployed beside production."""
    for rule in (*examples.RULES, *ways_in.RULES):
        yield from _told(rule, production, example)


def _told(rule: Callable[..., Iterator[str]], *parts: list[Object]) -> Iterator[str]:
    """Yield findings; what a rule needs to read, and is not there, is one as well."""
    try:
        yield from (f"{rule.__name__}: {found}" for found in rule(*parts))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        yield f"{rule.__name__}: a value is missing, or of another kind: {error!r}"
