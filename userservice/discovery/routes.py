"""/.well-known over HTTP."""

from __future__ import annotations

from flask import Blueprint, Response

from chassis.errors import NotFound
from chassis.http.auth import public
from chassis.http.context import web_context
from chassis.http.operation import Operation
from chassis.http.web import json_response
from chassis.schemas import Schema
from userservice.discovery.schemas import KeySet, Metadata
from userservice.discovery.service import Discovery

blueprint = Blueprint("discovery", __name__, url_prefix="/.well-known")


@blueprint.get("/jwks.json")
@public
@Operation("Get the public keys", tag="discovery", returns={200: KeySet}, raises=(NotFound,))
def get_key_set() -> Response:
    """Verify access tokens by the key that their header names; 404 while none is published."""
    return _published(_discovery().key_set())


@blueprint.get("/openid-configuration")
@public
@Operation(
    "Get the issuer's metadata, by OpenID's name",
    tag="discovery",
    returns={200: Metadata},
    raises=(NotFound,),
)
def get_openid_configuration() -> Response:
    """For libraries that look here. There are no ID tokens, and no authorization endpoint."""
    return _published(_discovery().metadata())


@blueprint.get("/oauth-authorization-server")
@public
@Operation(
    "Get the issuer's metadata", tag="discovery", returns={200: Metadata}, raises=(NotFound,)
)
def get_authorization_server() -> Response:
    """The same document as that under OpenID's name (RFC 8414, section 5)."""
    return _published(_discovery().metadata())


def _discovery() -> Discovery:
    return web_context().part(Discovery)


def _published(document: Schema) -> Response:
    seconds = round(_discovery().max_age.total_seconds())
    return json_response(document, headers={"Cache-Control": f"public, max-age={seconds}"})
