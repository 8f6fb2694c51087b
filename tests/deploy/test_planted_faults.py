"""The rules find each fault that is planted, and nothing where none is."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from tests.support import kustomize
from tests.support.processes import ROOT
from tests.support.rules import network, planted
from tests.support.rules.all import findings, findings_of_example
from tests.support.rules.examples import compose_jobs, compose_prometheus
from tests.support.rules.pods import amount

FAULTS = planted.faults()
PLACES = sorted({fault.place for fault in FAULTS})
PAGE = ROOT / "docs" / "manifests.md"
WEB = network.Party("web", "ours", (("app", "web"),), (("http", 8080),))
OTHER = network.Party("other", "theirs", (("app", "other"),))
ADDRESS = network.Party("an address", address="203.0.113.10")
ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_found_where_no_fault_is(place):
    assert list(planted.found(place, planted.clean(place))) == []


@pytest.mark.parametrize("file", sorted((ROOT / "k8s" / "examples").glob("*.yaml")), ids=str)
def test_nothing_is_found_in_an_example(file):
    production = kustomize.render(ROOT / "k8s" / "overlays" / "production")
    example = kustomize.load(file.read_text(encoding="utf-8"))

    assert list(findings_of_example(production, example)) == []


def test_nothing_is_found_in_compose():
    assert list(compose_jobs(compose_prometheus())) == []


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_found(fault):
    found = planted.found(fault.place, planted.plant(fault))

    # A rule that stumbles tells an operator nothing.
    assert next((each for each in found if "a value is missing" not in each), None) is not None


def test_the_documentation_counts_the_faults():
    text = PAGE.read_text(encoding="utf-8")

    assert f"{len(FAULTS)} faults are planted, and all are found" in text
    assert dict(re.findall(r"^\| (\w[\w ]*) \| (\d+) \|", text, re.MULTILINE)) == counts()


def counts():
    """Return group -> how many faults it has, as the documentation writes them."""
    groups = [each.group for each in FAULTS]
    return {group: str(groups.count(group)) for group in groups}


def test_no_fault_is_planted_twice():
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)


def test_a_rule_that_stumbles_says_so():
    objects = planted.clean("production")[:1]

    assert "a value is missing" in " ".join(findings(objects))


def policy(**spec):
    return {"metadata": {"namespace": "ours", "name": "a"}, "spec": {"podSelector": {}, **spec}}


def to(peer, **port):
    return policy(policyTypes=["Egress"], egress=[{"to": [peer], "ports": [port]}])


ANY_IPV4 = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}
CALLERS = {"namespaceSelector": {"matchLabels": {network.NAMESPACE: "theirs"}}}


@pytest.mark.parametrize(
    ("policies", "way", "expected"),
    [
        ([], network.Way(OTHER, WEB, 8080), True),
        ([policy(**ALL)], network.Way(OTHER, WEB, 8080), False),
        ([policy(**ALL)], network.Way(WEB, ADDRESS, 443), False),
        # Without policyTypes a policy is about ingress, and about egress only where it has some.
        ([policy()], network.Way(WEB, ADDRESS, 443), True),
        ([policy(egress=[])], network.Way(WEB, ADDRESS, 443), False),
        ([policy(policyTypes=["Ingress"], egress=[])], network.Way(WEB, ADDRESS, 443), True),
        # An empty list of peers or ports means all of them.
        ([policy(ingress=[{}])], network.Way(OTHER, WEB, 8080), True),
        ([policy(ingress=[{"from": [CALLERS]}])], network.Way(OTHER, WEB, 8080), True),
        ([policy(ingress=[{"from": [CALLERS]}])], network.Way(WEB, WEB, 8080), False),
        ([policy(ingress=[{"from": [{"podSelector": {}}]}])], network.Way(OTHER, WEB, 8080), False),
        ([policy(ingress=[{"from": [{"podSelector": {}}]}])], network.Way(WEB, WEB, 8080), True),
        # Both in one peer: that pod in that namespace.
        (
            [
                policy(
                    ingress=[{"from": [CALLERS | {"podSelector": {"matchLabels": {"app": "b"}}}]}]
                )
            ],
            network.Way(OTHER, WEB, 8080),
            False,
        ),
        ([policy(ingress=[{"ports": [{"port": "http"}]}])], network.Way(OTHER, WEB, 8080), True),
        ([policy(ingress=[{"ports": [{"port": "http"}]}])], network.Way(OTHER, WEB, 80), False),
        ([to(ANY_IPV4, port=443)], network.Way(WEB, ADDRESS, 443), False),
        ([to({"ipBlock": {"cidr": "::/0"}}, port=443)], network.Way(WEB, ADDRESS, 443), False),
        ([to({"ipBlock": {"cidr": "0.0.0.0/0"}}, port=443)], network.Way(WEB, ADDRESS, 443), True),
        (
            [to({"ipBlock": {"cidr": "0.0.0.0/0"}}, port=443)],
            network.Way(WEB, ADDRESS, 443, "UDP"),
            False,
        ),
        # Policies add up, and one of another namespace is about other pods.
        ([policy(**ALL), policy(ingress=[{}])], network.Way(OTHER, WEB, 8080), True),
        (
            [{"metadata": {"namespace": "theirs"}, "spec": ALL}],
            network.Way(ADDRESS, WEB, 8080),
            True,
        ),
    ],
)
def test_the_simulator_lets_through_what_kubernetes_does(policies, way, expected):
    assert network.reaches(policies, way) is expected


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        *(("250m", "0.25"), ("512m", "0.512"), ("1", 1), (2, 2), ("1.5", "1.5")),
        *(("512Mi", 2**29), ("1Gi", 2**30), ("1k", 1000), ("1M", 10**6)),
    ],
)
def test_a_quantity_is_read(quantity, value):
    assert amount(quantity) == Decimal(value)


@pytest.mark.parametrize("quantity", ["Mi", "1MB", "1 Gi", "-1"])
def test_a_text_that_is_no_quantity_is_refused(quantity):
    with pytest.raises(ValueError, match=re.escape(quantity)):
        amount(quantity)
