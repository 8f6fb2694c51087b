"""Each lock holds what its list asks for: a list may include another one, which grows by itself."""

from __future__ import annotations

import re
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deployment import ROOT

LISTS = sorted([*ROOT.glob("requirements*.in"), *ROOT.glob("benchmarks/peers/*/requirements.in")])


@cache
def lines_of(file):
    """Return the lines of a list that say something, without their comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in file.read_text().splitlines())
    return [line.strip() for line in lines if line.strip()]


def asked_for(file):
    """Return the requirements of a list, and of the lists that it includes."""
    for line in lines_of(file):
        if line.startswith("-r "):
            yield from asked_for((file.parent / line[3:]).resolve())
        elif not line.startswith("-"):
            yield Requirement(line)


def constraints(file):
    """Return the versions that a list takes from locks."""
    locks = [line[3:] for line in lines_of(file) if line.startswith("-c ")]
    return dict(pin for lock in locks for pin in pins((file.parent / lock).resolve()).items())


def pins(lock):
    """Return the versions in a lock by the canonical names of their packages."""
    found = re.findall(r"^(\S+)==(\S+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(re.sub(r"\[.*", "", name)): version for name, version in found}


@pytest.mark.parametrize("file", LISTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_lock_holds_what_its_list_asks_for(file):
    locked, asked = pins(file.with_suffix(".txt")), list(asked_for(file))

    assert asked
    assert [str(each) for each in asked if not is_met(each, locked)] == []


def is_met(requirement, locked):
    version = locked.get(canonicalize_name(requirement.name))
    return version is not None and version in requirement.specifier


@pytest.mark.parametrize("file", LISTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_lock_has_the_versions_of_the_locks_that_bind_it(file):
    locked, bound = pins(file.with_suffix(".txt")), constraints(file)

    assert {name: locked[name] for name in locked.keys() & bound.keys()} == {
        name: bound[name] for name in locked.keys() & bound.keys()
    }


def test_the_lists_are_found():
    assert ROOT / "requirements.in" in LISTS
    assert any(constraints(file) for file in LISTS)
