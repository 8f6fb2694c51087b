"""/account over HTTP: the page to which the links in e-mails lead, and its files."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response

from chassis.http.assets import Assets
from chassis.http.auth import public
from chassis.http.context import web_context
from chassis.http.web import address, empty_response
from userservice.account.page import render_page

blueprint = Blueprint("account", __name__, url_prefix="/account")
ASSETS = Assets("userservice.account", "static")

# The page loads its own files, and asks its own service. The window that opened it cannot lead it
# elsewhere. It is never kept (no-store), and no other page learns its address (no-referrer), as all
# answers of the service.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}


@blueprint.get("")
@public
def get_account_page() -> Response:
    """Show the page. A link's token stands behind a #, which browsers send to nobody."""
    page = render_page(web_context().about.service)
    return Response(page, headers=HEADERS, mimetype="text/html")


@blueprint.get("/")
@public
def get_account_index() -> Response:
    """Lead to the page, which finds its files from its own address alone; browsers keep the #."""
    return empty_response(HTTPStatus.FOUND, {"Location": address("/account")})


@blueprint.get("/<asset>")
@public
def get_account_asset(asset: str) -> Response:
    """Serve a file of the page."""
    return ASSETS.respond(asset)
