"""The API's description (OpenAPI 3.1), made from the schemas that validate it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Flask
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from chassis.http.auth import Guard, guard_of
from chassis.http.context import context_of
from chassis.http.operation import Operation, operation_of
from chassis.http.problem import PROBLEM_JSON
from chassis.http.web import JSON
from chassis.schemas import Schema

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What an API says of itself, beyond its routes.

    `token_path` is where access tokens are granted and renewed (OAuth 2).
    """

    description: str
    token_path: str


def build_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all described routes."""
    context = context_of(app)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": context.about.service,
            "version": context.about.version,
            "description": context.api.description,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(app),
        "components": {
            "schemas": _schemas(app),
            "securitySchemes": _security_schemes(context.api.token_path),
        },
    }


def _described(app: Flask) -> Iterator[tuple[Rule, Callable[..., Any], Operation]]:
    """Yield the routes that say what they do, each with its view and what that says."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation is not None:
            yield rule, view, operation


def _paths(app: Flask) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for rule, view, operation in _described(app):
        path = paths.setdefault(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            path[method.lower()] = _operation(rule, view, operation)
    return paths


def _schemas(app: Flask) -> dict[str, Any]:
    models: set[type[Schema]] = {Problem}
    for _, _, operation in _described(app):
        models |= operation.models()
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=REF,
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _security_schemes(token_path: str) -> dict[str, Any]:
    flow = {"tokenUrl": token_path, "refreshUrl": token_path, "scopes": {}}
    return {
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "oauth2": {"type": "oauth2", "flows": {"password": flow}},
    }


def _operation(rule: Rule, view: Callable[..., Any], operation: Operation) -> dict[str, Any]:
    return {
        "operationId": rule.endpoint.rpartition(".")[2],
        "summary": operation.summary,
        "description": inspect.getdoc(view) or operation.summary,
        "tags": [operation.tag],
        "security": SECURITY[guard_of(view) or Guard.PUBLIC],
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(operation),
            *_headers(operation),
        ],
        "responses": {
            **_answers(operation),
            **_errors(operation, view, has_path=bool(rule.arguments)),
        },
        **_request_body(operation),
    }


def _request_body(operation: Operation) -> dict[str, Any]:
    if operation.upload:
        content = _file(operation.upload)
    elif operation.body is not None:
        schema = {"$ref": REF.format(model=operation.body.__name__)}
        content = {media_type: {"schema": schema} for media_type in operation.media_types}
    else:
        return {}
    return {"requestBody": {"required": True, "content": content}}


def _file(media_types: tuple[str, ...]) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


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


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    properties = operation.query.model_json_schema()["properties"]
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


def _headers(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": REQUEST_HEADERS[name],
            "schema": REQUEST_HEADER_SCHEMAS.get(name, {"type": "string"}),
        }
        for name in operation.request_headers
    ]


def _answers(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            **_content(operation, model),
            **_answer_headers(operation.response_headers.get(status, ())),
        }
        for status, model in operation.returns.items()
    }


def _content(operation: Operation, model: type[Schema] | None) -> dict[str, Any]:
    if model is not None:
        return {"content": {JSON: {"schema": {"$ref": REF.format(model=model.__name__)}}}}
    if operation.download:
        return {"content": _file(operation.download)}
    return {}


def _answer_headers(names: tuple[str, ...]) -> dict[str, Any]:
    if not names:
        return {}
    return {
        "headers": {
            name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names
        }
    }


def _errors(operation: Operation, view: Callable[..., Any], *, has_path: bool) -> dict[str, Any]:
    schema = {"$ref": REF.format(model="Problem")}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": schema}},
        }
        for status in sorted(operation.error_statuses(view, has_path=has_path))
        if status not in operation.returns
    }
