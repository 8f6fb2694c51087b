"""The API's description (OpenAPI 3.1), made from the schemas that validate it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from chassis.http.auth import Access, Guard, access_of
from chassis.http.context import context_of
from chassis.http.management import is_managed
from chassis.http.openapi_headers import HEADERS
from chassis.http.openapi_operation import REF, describe
from chassis.http.openapi_security import security, security_schemes
from chassis.http.operation import Operation, operation_of
from chassis.schemas import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The parts of an API's description that its routes do not give.

    Attributes:
        description: A sentence about the API.
        contact: Whom to ask about it.
        tags: Group of operations -> a sentence about it.
        token_path: The path that grants and renews access tokens (OAuth 2).
        scopes: Scope of API keys -> its meaning.
    """

    description: str
    contact: str
    tags: Mapping[str, str]
    token_path: str
    scopes: Mapping[str, str]


def build_document(app: Flask, prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all described routes.

    Args:
        app: The application.
        prefix: Path below which it is mounted, without a slash at its end.
    """
    context = context_of(app)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": context.about.service,
            "version": context.about.version,
            "description": context.api.description,
            "contact": {"name": context.api.contact},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": prefix or "/"}],
        "tags": [{"name": name, "description": text} for name, text in context.api.tags.items()],
        "paths": _paths(app),
        "components": {
            "schemas": _schemas(app),
            "headers": HEADERS,
            "securitySchemes": security_schemes(
                prefix + context.api.token_path, context.api.scopes
            ),
        },
    }


def _described(app: Flask) -> Iterator[tuple[Rule, Callable[..., Any], Operation]]:
    """Yield the routes of the API that have a description, each with its view and description."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation is not None and not is_managed(app, rule.rule):
            yield rule, view, operation


def _paths(app: Flask) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    is_open = context_of(app).authenticator.is_registration_open
    for rule, view, operation in _described(app):
        path = paths.setdefault(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        credentials = security(
            access_of(view) or Access(Guard.PUBLIC), is_registration_open=is_open
        )
        described = describe(rule, view, operation) | {"security": credentials}
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path[method.lower()] = described
    return paths


def _schemas(app: Flask) -> dict[str, Any]:
    models: set[type[Schema]] = set()
    for _, _, operation in _described(app):
        models |= operation.models()
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=REF,
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas
