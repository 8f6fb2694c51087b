"""Rules about examples of a way in: paths, hosts, callers, and those who verify tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import urlsplit

from app import create_app
from config import AppConfig
from tests.support.kustomize import Object
from tests.support.manifests import name, of_kind
from tests.support.rules.environment import settings_of
from tests.support.rules.network import INGRESS, NAMESPACE, Party, Way, pods_of, reaches

# For the cluster, not for the world.
INTERNAL = {"/metrics", "/health", "/ready", "/version"}


@cache
def routes() -> frozenset[str]:
    """Return the paths of all routes."""
    rules = create_app(AppConfig(redis_url="")).url_map.iter_rules()
    return frozenset(each.rule for each in rules)


def published() -> set[str]:
    """Return the first parts of the paths that the world may ask for."""
    return {f"/{each.split('/')[1]}" for each in routes()} - INTERNAL - {"/"}


def ways_in(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect backends that exist, and all paths but those for the cluster."""
    for each in of_kind(example, "Ingress"):
        if each["spec"].get("ingressClassName", "") not in INGRESS.namespace.split("-"):
            yield f"{name(each)}: no NetworkPolicy lets its controller in"
        paths = [path for rule in each["spec"]["rules"] for path in rule["http"]["paths"]]
        backends = [path["backend"]["service"] for path in paths]
        targets = {(backend["name"], backend["port"].get("name")) for backend in backends}
        yield from _way_in(each, targets, {path["path"] for path in paths}, production)
        yield from _kinds(each, {path["path"]: path["pathType"] == "Exact" for path in paths})
    for each in of_kind(example, "HTTPRoute"):
        rules = each["spec"]["rules"]
        targets = {
            (backend["name"], backend["port"]) for rule in rules for backend in rule["backendRefs"]
        }
        matches = [match["path"] for rule in rules for match in rule["matches"]]
        asked = {path["value"] for path in matches}
        yield from _kinds(each, {path["value"]: path["type"] == "Exact" for path in matches})
        yield from _way_in(each, targets, asked, production)
        parents = {parent["namespace"] for parent in each["spec"]["parentRefs"]}
        if parents != {INGRESS.namespace}:
            yield f"{name(each)}: no NetworkPolicy lets {parents} in"


def _way_in(
    each: Object, targets: set[tuple[str, object]], paths: set[str], production: list[Object]
) -> Iterator[str]:
    known = {
        (service["metadata"]["name"], port[key])
        for service in of_kind(production, "Service")
        for port in service["spec"]["ports"]
        for key in ("name", "port")
    }
    yield from (f"{name(each)}: there is no {target}" for target in targets - known)
    yield from (f"{name(each)}: {path} is published or left out" for path in paths ^ published())


def _kinds(each: Object, exact: dict[str, bool]) -> Iterator[str]:
    """Expect all that lies below a path to be published with it."""
    for path, is_exact in exact.items():
        if is_exact and any(route.startswith(f"{path}/") for route in routes()):
            yield f"{name(each)}: {path} is published without what lies below it"


def hosts(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect the host of PUBLIC_URL, to which links in e-mails lead."""
    host = urlsplit(settings_of(production)["PUBLIC_URL"]).hostname
    for each in of_kind(example, "Ingress"):
        found = [rule["host"] for rule in each["spec"]["rules"]]
        found += [one for tls in each["spec"]["tls"] for one in tls["hosts"]]
        yield from (f"{name(each)}: {one} is not {host}" for one in found if one != host)
    for each in of_kind(example, "HTTPRoute"):
        found = each["spec"]["hostnames"]
        yield from (f"{name(each)}: {one} is not {host}" for one in found if one != host)


def verifiers(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect the issuer of tokens to the byte, its keys, and both objects to be about one pod."""
    issuer = settings_of(production)["PUBLIC_URL"]
    allowed = [{"from": [{"source": {"requestPrincipals": [f"{issuer}/*"]}}]}]
    pods = []
    for each in of_kind(example, "RequestAuthentication"):
        pods.append((each["metadata"]["namespace"], each["spec"]["selector"]))
        for rule in each["spec"]["jwtRules"]:
            if (rule["issuer"], rule["jwksUri"]) != (issuer, f"{issuer}/.well-known/jwks.json"):
                yield f"{name(each)}: {rule['issuer']} and {rule['jwksUri']} are not of {issuer}"
    for each in of_kind(example, "AuthorizationPolicy"):
        pods.append((each["metadata"]["namespace"], each["spec"]["selector"]))
        if (each["spec"]["action"], each["spec"]["rules"]) != ("ALLOW", allowed):
            yield f"{name(each)}: lets others through than callers with a token of {issuer}"
    if pods and pods != [pods[0]] * 2:
        yield f"requests are verified at other pods than they are allowed at: {pods}"


def callers(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect the caller that a policy names to be let in, and no other pod of its namespace."""
    for each in of_kind(example, "NetworkPolicy"):
        if each["metadata"]["name"] != "cloudnative-app-callers":
            continue
        (peer,) = each["spec"]["ingress"][0]["from"]
        namespace = peer["namespaceSelector"]["matchLabels"][NAMESPACE]
        labels = tuple(peer["podSelector"]["matchLabels"].items())
        web = pods_of(production)["web"]
        policies = of_kind([*production, *example], "NetworkPolicy")
        if not reaches(policies, Way(Party("a caller", namespace, labels), web, 8080)):
            yield f"{name(each)}: does not let its caller in"
        if reaches(policies, Way(Party("its neighbour", namespace), web, 8080)):
            yield f"{name(each)}: lets all of {namespace} in"


RULES: list[Callable[[list[Object], list[Object]], Iterator[str]]] = [
    ways_in,
    hosts,
    verifiers,
    callers,
]
