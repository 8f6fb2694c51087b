"""A request as attributes of OpenTelemetry's conventions, without data that callers make up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from uuid import UUID

from opentelemetry.util.http import detect_synthetic_user_agent, sanitize_method

from chassis.telemetry.tracing import is_personal_data_allowed

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.routing import Rule

OTHER = "_OTHER"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_HOST = re.compile(r"(\[[^]@]+\]|[^]\[:@]+)(?::([0-9]{1,5})?)?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDACTED = "REDACTED"
_MAX_QUERY = 1024


def method_of(environ: WSGIEnvironment) -> str:
    """Return a method, `_OTHER` for those that no standard has."""
    method: str = environ["REQUEST_METHOD"]
    return method if method in _METHODS else sanitize_method(method.strip())


def name_of(attributes: Mapping[str, Any]) -> str:
    """Return a span's name: there are as many as there are routes, and a few more."""
    method = attributes["http.request.method"]
    method = "HTTP" if method == OTHER else method
    route = attributes.get("http.route")
    return f"{method} {route}" if route is not None else method


def request_attributes(environ: WSGIEnvironment) -> dict[str, Any]:
    """Return a span's attributes: no values of the query, no paths that we do not have."""
    known = environ.get("werkzeug.request")
    rule = known.url_rule if known is not None else None
    method = method_of(environ)
    original = environ["REQUEST_METHOD"].strip()
    found = {
        "http.request.method": method,
        "http.request.method_original": original if original != method else None,
        "url.scheme": environ.get("wsgi.url_scheme"),
        "network.protocol.version": environ.get("SERVER_PROTOCOL", "").removeprefix("HTTP/"),
        **_peers(environ),
        **_agent(environ.get("HTTP_USER_AGENT", "")),
    }
    attributes = {name: value for name, value in found.items() if value}
    if rule is not None:
        attributes["http.route"] = rule.rule
    if query := environ.get("QUERY_STRING"):
        attributes["url.query"] = _names(query)
    path = environ.get("PATH_INFO", "")
    attributes["url.path"] = path if _is_ours(rule, known and known.view_args) else ""
    return attributes


def _peers(environ: WSGIEnvironment) -> dict[str, str | int | None]:
    """Return the two ends: the server by the name and port that the client knows it by."""
    client_port = environ.get("REMOTE_PORT")
    host = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
    if host is None:
        port = int(environ.get("SERVER_PORT") or 0)
    else:
        port = int(host[2] or 0) or _DEFAULT_PORTS.get(environ["wsgi.url_scheme"], 0)
    return {
        "server.address": host[1].strip("[]") if host is not None else None,
        "server.port": port,
        "client.address": environ.get("REMOTE_HOST") or environ.get("REMOTE_ADDR"),
        "client.port": int(client_port) if client_port else None,
    }


def _agent(text: str) -> dict[str, str | None]:
    is_shown = "@" not in text or is_personal_data_allowed()
    return {
        "user_agent.original": text if is_shown else _REDACTED,
        "user_agent.synthetic.type": detect_synthetic_user_agent(text),
    }


def _names(query: str) -> str:
    """Return a query with the names of its values alone, addresses left out."""
    text = query.encode("latin-1", "replace").decode(errors="replace")
    names = sorted({name for name, _ in parse_qsl(text, keep_blank_values=True)})
    return "&".join(f"{name}={_REDACTED}" for name in names if "@" not in name)[:_MAX_QUERY]


def _is_ours(rule: Rule | None, arguments: Mapping[str, Any] | None) -> bool:
    """Tell whether the variable parts of a path are ids only, which this service gave out."""
    return rule is not None and all(isinstance(each, UUID) for each in (arguments or {}).values())
