"""The API's description at /openapi.json, and the page /docs, to which / and /docs/ lead."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import cast

from flask import Blueprint, Flask, Response, current_app
from flask.blueprints import BlueprintSetupState

from chassis.http.assets import Assets, name_content, unless_known
from chassis.http.auth import public
from chassis.http.context import web_context
from chassis.http.openapi import build_document
from chassis.http.web import JSON, address, empty_response
from chassis.once import once_property

blueprint = Blueprint("openapi", __name__)
_KEY = "description"
ASSETS = Assets("flask_swagger_ui", "dist", caching="public, max-age=86400")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'

# Everything comes from this service; the page's script sets styles and inlines its icons.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Description:
    """The description of an application where nothing is mounted before it.

    Its text is made on first use, when the application has all of its routes.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app

    @once_property
    def text(self) -> str:
        """The description as JSON."""
        return json.dumps(build_document(self._app))

    @once_property
    def etag(self) -> str:
        """Names this text, in all processes that run this release with these settings."""
        return name_content(self.text.encode())


@blueprint.record
def _describe(state: BlueprintSetupState) -> None:
    state.app.extensions[_KEY] = Description(cast("Flask", state.app))


@blueprint.get("/openapi.json")
@public
def get_openapi() -> Response:
    """Return the description of this API, which is the same until a rollout."""
    prefix = address("")
    if prefix:  # rare, and of any text, so it is not kept
        text = json.dumps(build_document(current_app, prefix))
        return unless_known(Response(text, mimetype=JSON), name_content(text.encode()))
    description: Description = current_app.extensions[_KEY]
    return unless_known(Response(description.text, mimetype=JSON), description.etag)


@blueprint.get("/")
@blueprint.get("/docs/")  # the page finds its files from /docs alone
@public
def get_index() -> Response:
    """Lead people to the page."""
    return empty_response(HTTPStatus.FOUND, {"Location": address("/docs")})


@blueprint.get("/docs")
@public
def get_docs() -> Response:
    """Show the description of this API."""
    page = PAGE.format(title=web_context().about.service)
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(page, headers=headers, mimetype="text/html")


@blueprint.get("/docs/<asset>")
@public
def get_docs_asset(asset: str) -> Response:
    """Serve a file of Swagger UI."""
    if asset == "start.js":
        return Response(START, mimetype="text/javascript")
    return ASSETS.respond(asset)
