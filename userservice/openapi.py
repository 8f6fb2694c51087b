"""The API's description, made from the schemas that validate it, and a page that shows it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from mimetypes import guess_type
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, request
from pydantic.json_schema import models_json_schema
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from userservice.auth import Guard, guard_of, public
from userservice.errors import (
    AppError,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from userservice.problem import PROBLEM_JSON
from userservice.schemas import Schema
from userservice.web import JSON

blueprint = Blueprint("openapi", __name__)
View = TypeVar("View", bound=Callable[..., Any])

REF = "#/components/schemas/{model}"
HEADERS = {
    "ETag": "Version of the resource, for If-Match and If-None-Match.",
    "Last-Modified": "When the resource last changed.",
    "Location": "Address of the resource that was created.",
    "Link": "Address of the next page, with rel=next.",
}
REQUEST_HEADERS = {
    "Idempotency-Key": "Sent again with the same body, a request is answered alike, not repeated.",
    "If-Match": "Only when the resource still has this ETag.",
    "If-None-Match": "Only when the resource no longer has this ETag.",
}


REQUEST_HEADER_SCHEMAS = {
    "Idempotency-Key": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}
API_KEY: dict[str, list[str]] = {"apiKey": []}
BEARER: dict[str, list[str]] = {"oauth2": []}
SECURITY: dict[Guard, list[dict[str, list[str]]]] = {
    Guard.PUBLIC: [],
    Guard.REGISTRAR: [{}, API_KEY, BEARER],
    Guard.USER: [BEARER],
    Guard.OWNER: [API_KEY, BEARER],
    Guard.ADMINISTRATOR: [API_KEY, BEARER],
}


class FieldProblem(Schema):
    """What is wrong with one member of the input."""

    pointer: str
    detail: str


class Problem(Schema):
    """An error (RFC 9457); clients branch on `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str
    code: str
    errors: list[FieldProblem]
    request_id: str
    trace_id: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a route says of itself beyond its rule and its guard."""

    summary: str
    tag: str
    returns: Mapping[int, type[Schema] | None]
    raises: tuple[type[AppError], ...] = ()
    body: type[Schema] | None = None
    media_types: tuple[str, ...] = (JSON,)
    query: type[Schema] | None = None
    request_headers: tuple[str, ...] = ()
    response_headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    upload: tuple[str, ...] = ()
    download: tuple[str, ...] = ()


def operation(  # noqa: PLR0913 - the parts of an operation
    summary: str,
    *,
    tag: str,
    returns: Mapping[int, type[Schema] | None],
    raises: tuple[type[AppError], ...] = (),
    body: type[Schema] | None = None,
    media_types: tuple[str, ...] = (JSON,),
    query: type[Schema] | None = None,
    request_headers: tuple[str, ...] = (),
    response_headers: Mapping[int, tuple[str, ...]] | None = None,
    upload: tuple[str, ...] = (),
    download: tuple[str, ...] = (),
) -> Callable[[View], View]:
    """Describe a route; its docstring is the long description.

    Args:
        summary: One line.
        tag: Group that the operation is listed in.
        returns: Status -> schema of the answer, None for an empty one.
        raises: Errors of its own; those every such route has are added.
        body: Schema of the request's body.
        media_types: Content types of that body.
        query: Schema of the query parameters.
        request_headers: Conditional headers that are honoured.
        response_headers: Status -> headers that an answer carries.
        upload: Content types of a file that is the request's body.
        download: Content types of a file that is the answer.
    """
    described = Operation(
        summary=summary,
        tag=tag,
        returns=returns,
        raises=raises,
        body=body,
        media_types=media_types,
        query=query,
        request_headers=request_headers,
        response_headers=response_headers or {},
        upload=upload,
        download=download,
    )

    def mark(view: View) -> View:
        view.__dict__["operation"] = described
        return view

    return mark


def build_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all described routes."""
    paths: dict[str, dict[str, Any]] = {}
    models: set[type[Schema]] = {Problem}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        described: Operation | None = view.__dict__.get("operation")
        if described is None:
            continue
        models |= {model for model in (*described.returns.values(), described.body) if model}
        path = paths.setdefault(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            path[method.lower()] = _operation(rule, view, described)
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=REF,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": app.config["SERVICE_NAME"],
            "version": app.config["APP_VERSION"],
            "description": "Registers users and keeps what is known of them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "oauth2": {
                    "type": "oauth2",
                    "flows": {
                        "password": {
                            "tokenUrl": "/auth/token",
                            "refreshUrl": "/auth/token",
                            "scopes": {},
                        }
                    },
                },
            },
        },
    }


def _operation(rule: Rule, view: Callable[..., Any], described: Operation) -> dict[str, Any]:
    guard = guard_of(view)
    result: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "summary": described.summary,
        "description": inspect.getdoc(view) or described.summary,
        "tags": [described.tag],
        "security": SECURITY[guard or Guard.PUBLIC],
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(described),
            *_headers(described),
        ],
        "responses": _responses(
            described,
            guard,
            has_path=bool(rule.arguments),
            is_limited="limit" in view.__dict__,
        ),
    }
    if described.body is not None:
        content = {"schema": {"$ref": REF.format(model=described.body.__name__)}}
        result["requestBody"] = {
            "required": True,
            "content": dict.fromkeys(described.media_types, content),
        }
    if described.upload:
        content = {"schema": {"type": "string"}}
        result["requestBody"] = {
            "required": True,
            "content": dict.fromkeys(described.upload, content),
        }
    return result


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
        }
        for name in sorted(rule.arguments)
    ]


def _query_parameters(described: Operation) -> list[dict[str, Any]]:
    if described.query is None:
        return []
    properties = described.query.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop the null alternative: a query parameter is absent, never null."""
    alternatives = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    kept = {name: value for name, value in schema.items() if name not in {"anyOf", "title"}}
    if kept.get("default", ...) is None:
        del kept["default"]
    return kept | (alternatives[0] if alternatives else {})


def _headers(described: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": REQUEST_HEADERS[name],
            "schema": REQUEST_HEADER_SCHEMAS.get(name, {"type": "string"}),
        }
        for name in described.request_headers
    ]


def _responses(
    described: Operation, guard: Guard | None, *, has_path: bool, is_limited: bool
) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in described.returns.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if model is not None:
            schema = {"$ref": REF.format(model=model.__name__)}
            response["content"] = {JSON: {"schema": schema}}
        elif described.download:
            content = {"schema": {"type": "string"}}
            response["content"] = dict.fromkeys(described.download, content)
        names = described.response_headers.get(status, ())
        if names:
            response["headers"] = {
                name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names
            }
        responses[str(status)] = response
    for status in sorted(
        _error_statuses(described, guard, has_path=has_path, is_limited=is_limited)
    ):
        responses.setdefault(
            str(status),
            {
                "description": HTTPStatus(status).phrase,
                "content": {PROBLEM_JSON: {"schema": {"$ref": REF.format(model="Problem")}}},
            },
        )
    return responses


def _error_statuses(
    described: Operation, guard: Guard | None, *, has_path: bool, is_limited: bool
) -> set[int]:
    """Add to a route's own errors those that its shape brings along."""
    statuses = {error.status for error in described.raises}
    if described.tag != "probes":
        statuses |= {AppError.status, Unavailable.status}
    if described.body is not None:
        statuses |= {
            InvalidRequest.status,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        }
    if described.query is not None:
        statuses.add(InvalidRequest.status)
    if guard is not Guard.PUBLIC:
        statuses |= {Unauthenticated.status, Forbidden.status}
    if is_limited:
        statuses.add(TooManyRequests.status)
    if has_path:
        statuses.add(HTTPStatus.NOT_FOUND)
    return {int(status) for status in statuses}


@blueprint.get("/openapi.json")
@public
def get_openapi() -> Response:
    """Return the description of this API."""
    if "openapi" not in current_app.extensions:
        document = json.dumps(build_document(current_app))
        current_app.extensions["openapi"] = document
    return Response(current_app.extensions["openapi"], mimetype=JSON)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'

# Everything comes from this service; the page's script sets styles and inlines its icons.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@blueprint.get("/docs")
@public
def get_docs() -> Response:
    """Show the description of this API."""
    page = PAGE.format(title=current_app.config["SERVICE_NAME"])
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(page, headers=headers, mimetype="text/html")


@blueprint.get("/docs/<asset>")
@public
def get_docs_asset(asset: str) -> Response:
    """Serve a file of Swagger UI."""
    if asset == "start.js":
        return Response(START, mimetype="text/javascript")
    content, media_type, etag = _read_asset(asset)
    response = Response(content, mimetype=media_type)
    response.headers["Cache-Control"] = "public, max-age=86400"
    response.set_etag(etag)
    response.make_conditional(request)
    return response


@lru_cache(maxsize=64)
def _read_asset(name: str) -> tuple[bytes, str, str]:
    """Return a file, its type and its ETag; one copy for all, however slowly they read it.

    Raises:
        NotFound: there is no such file.
    """
    files_of_it = {each.name: each for each in (files("flask_swagger_ui") / "dist").iterdir()}
    if name not in files_of_it:
        raise NotFound
    content = files_of_it[name].read_bytes()
    media_type = guess_type(name)[0] or "application/octet-stream"
    return content, media_type, sha256(content).hexdigest()[:32]
