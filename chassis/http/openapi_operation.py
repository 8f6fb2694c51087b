"""One route in the API's description: parameters, body, answers and errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from werkzeug.routing import Rule

from chassis.http.auth import access_of
from chassis.http.flask_app import HexConverter
from chassis.http.openapi_headers import answer_headers, request_headers
from chassis.http.openapi_security import describe_scopes
from chassis.http.operation import Operation
from chassis.http.problem import PROBLEM_JSON
from chassis.http.web import JSON
from chassis.schemas import Schema

REF = "#/components/schemas/{model}"
# Kind of a parameter in the rule of a route -> its schema.
_FORMATS = {"uuid": {"format": "uuid"}, "hex": {"pattern": f"^{HexConverter.regex}$"}}


def describe(rule: Rule, view: Callable[..., Any], operation: Operation) -> dict[str, Any]:
    """Return the Operation Object of a route (OpenAPI 3.1, section 4.8.10)."""
    return {
        "operationId": rule.endpoint.rpartition(".")[2],
        "summary": operation.summary,
        "description": _description(view, operation),
        "tags": [operation.tag],
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(operation),
            *request_headers(operation),
        ],
        "responses": {
            **_answers(operation, view),
            **_errors(operation, view, has_path=bool(rule.arguments)),
        },
        **_request_body(operation),
    }


def _description(view: Callable[..., Any], operation: Operation) -> str:
    access = access_of(view)
    scopes = describe_scopes(access) if access is not None else ""
    return "\n\n".join(filter(None, [inspect.getdoc(view) or operation.summary, scopes]))


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
            "schema": {"type": "string"} | _FORMATS.get(_converter(rule, name), {}),
        }
        for name in sorted(rule.arguments)
    ]


def _converter(rule: Rule, name: str) -> str:
    """Return the kind of a parameter, as the rule of its route names it; empty: any text."""
    found = re.search(rf"<(\w+):{name}>", rule.rule)
    return found[1] if found is not None else ""


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


def _answers(operation: Operation, view: Callable[..., Any]) -> dict[str, Any]:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            **_content(operation, model),
            "headers": answer_headers(operation, view, status),
        }
        for status, model in operation.returns.items()
    }


def _content(operation: Operation, model: type[Schema] | None) -> dict[str, Any]:
    if model is not None:
        return {"content": {JSON: {"schema": {"$ref": REF.format(model=model.__name__)}}}}
    if operation.download:
        return {"content": _file(operation.download)}
    return {}


def _errors(operation: Operation, view: Callable[..., Any], *, has_path: bool) -> dict[str, Any]:
    schema = {"$ref": REF.format(model=operation.problem.__name__)}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": schema}},
            "headers": answer_headers(operation, view, status),
        }
        for status in sorted(operation.error_statuses(view, has_path=has_path))
        if status not in operation.returns
    }
