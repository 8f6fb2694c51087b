"""The answer to OPTIONS, and the content types that an address takes (RFC 5789, RFC 9110)."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, current_app
from flask.globals import request_ctx
from werkzeug.exceptions import MethodNotAllowed, NotFound

from chassis.http.operation import operation_of
from chassis.http.web import empty_response


def register_options(app: Flask) -> None:
    """Answer OPTIONS without a body, with the methods of the address and its patch formats."""
    # Flask's own has the type of a page.
    app.make_default_options_response = _answer  # type: ignore[method-assign]


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
    headers = {"Allow": ", ".join(sorted(methods))}
    if patches := accepted_patches():
        headers["Accept-Patch"] = patches
    return empty_response(HTTPStatus.NO_CONTENT, headers)
