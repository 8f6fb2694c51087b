"""The answer to OPTIONS, and the content types that an address takes (RFC 5789, RFC 9110)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import NoReturn

from flask import Flask, Request, Response, current_app
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from chassis.http.operation import operation_of
from chassis.http.web import empty_response


def register_options(app: Flask) -> None:
    """Answer OPTIONS without a body, with the methods of the address and its patch formats."""
    # Flask's own has the type of a page.
    app.make_default_options_response = _answer  # type: ignore[method-assign]
    fail = app.raise_routing_exception

    def answer_for_all(request: Request) -> NoReturn:
        """Answer OPTIONS of `*`, which stands for all addresses (RFC 9110, 9.3.7)."""
        if request.environ["PATH_INFO"] == "*":
            # Without a code: Flask takes it for an answer, not for a failure.
            raise HTTPException(response=_answer_with(all_methods(app)))
        fail(request)

    app.raise_routing_exception = answer_for_all  # type: ignore[method-assign]


def accepted_patches() -> str:
    """Return the content types that PATCH takes at the requested address; empty: none."""
    adapter = request_ctx.url_adapter
    try:
        endpoint, _ = adapter.match(method="PATCH") if adapter is not None else ("", {})
    except (MethodNotAllowed, NotFound):
        return ""
    operation = operation_of(current_app.view_functions[str(endpoint)])
    return ", ".join(operation.media_types) if operation is not None else ""


def _answer() -> Response:
    adapter = request_ctx.url_adapter
    methods = adapter.allowed_methods() if adapter is not None else ()
    response = _answer_with(methods)
    if patches := accepted_patches():
        response.headers["Accept-Patch"] = patches
    return response


def _answer_with(methods: Iterable[str]) -> Response:
    return empty_response(HTTPStatus.NO_CONTENT, {"Allow": ", ".join(sorted(methods))})


def all_methods(app: Flask) -> set[str]:
    """Return the methods that any address of an application has."""
    return {method for rule in app.url_map.iter_rules() for method in rule.methods or ()}
