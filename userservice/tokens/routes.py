"""/auth over HTTP: OAuth 2's token, revocation and introspection endpoints."""

from __future__ import annotations

from http import HTTPStatus
from typing import TypeVar

from flask import Blueprint, Response, request
from werkzeug.datastructures import MultiDict

from chassis.errors import InvalidRequest
from chassis.http.auth import Guard, public, requires
from chassis.http.context import backing_services, web_context
from chassis.http.operation import Operation
from chassis.http.rate_limit import limit, limit_address
from chassis.http.web import FORM, NO_STORE, empty_response, json_response, read_input
from chassis.schemas import Schema
from userservice.logins.labels import label_of
from userservice.scopes import Scope
from userservice.tokens import introspection, service
from userservice.tokens.errors import (
    InvalidGrant,
    OAuthError,
    UnsupportedGrantType,
    UnsupportedTokenType,
)
from userservice.tokens.issuer import TokenIssuer, TokenPair
from userservice.tokens.schemas import (
    Introspection,
    IntrospectionRequest,
    OAuthProblem,
    RevocationRequest,
    TokenRequest,
    TokenResponse,
)
from userservice.tokens.service import PasswordGrant
from userservice.users.addresses import mailbox_key

blueprint = Blueprint("tokens", __name__, url_prefix="/auth")
FormType = TypeVar("FormType", bound=Schema)
JWT_DOTS = 2


@blueprint.post("/token")
@public
@limit("login")
@Operation(
    "Log in, or renew a log-in",
    tag="auth",
    body=TokenRequest,
    media_types=(FORM,),
    returns={200: TokenResponse},
    raises=(InvalidGrant, UnsupportedGrantType),
    problem=OAuthProblem,
)
def issue_tokens() -> Response:
    """Grants: password (username is the e-mail address) and refresh_token, which is used up.

    A refresh whose answer was lost may be sent again for a moment, and gets the same refresh token.
    """
    form = _read_form(TokenRequest)
    pair = _log_in(form) if form.grant_type == "password" else _refresh(form)
    return json_response(_document(pair), headers=NO_STORE)


@blueprint.post("/revoke")
@public
@Operation(
    "Log out",
    tag="auth",
    body=RevocationRequest,
    media_types=(FORM,),
    returns={200: None},
    raises=(UnsupportedTokenType,),
    problem=OAuthProblem,
)
def revoke_token() -> Response:
    """Ends the log-in that a refresh token belongs to, with its access tokens.

    Succeeds for unknown tokens, too.
    """
    token = _read_form(RevocationRequest).token.get_secret_value()
    if token.count(".") == JWT_DOTS:
        raise UnsupportedTokenType
    service.revoke(backing_services().database, token)
    return empty_response(HTTPStatus.OK, NO_STORE)


@blueprint.post("/introspect")
@requires(Guard.SERVICE, Scope.TOKENS_INTROSPECT)
@Operation(
    "Ask whether an access token holds",
    tag="auth",
    body=IntrospectionRequest,
    media_types=(FORM,),
    returns={200: Introspection},
    problem=OAuthProblem,
)
def introspect_token() -> Response:
    """Answers for this moment: a log-in that has ended has no active token any more.

    Refresh tokens are never active: they are for this service alone.
    """
    token = _read_form(IntrospectionRequest).token.get_secret_value()
    found = introspection.introspect(backing_services().database, _issuer().access_tokens, token)
    return json_response(found, headers=NO_STORE)


def _log_in(form: TokenRequest) -> TokenPair:
    if form.username is None or form.password is None:
        raise OAuthError("username and password are required")
    limit_address("login", mailbox_key(form.username))
    label = label_of(request.headers.get("User-Agent", ""))
    grant = PasswordGrant(form.username, form.password.get_secret_value(), label)
    services = backing_services()
    return service.log_in(services.database, services.hasher, _issuer(), grant)


def _refresh(form: TokenRequest) -> TokenPair:
    if form.refresh_token is None:
        raise OAuthError("refresh_token is required")
    token = form.refresh_token.get_secret_value()
    return service.refresh(backing_services().database, _issuer(), token)


def _document(pair: TokenPair) -> TokenResponse:
    return TokenResponse(
        access_token=pair.access_token,
        expires_in=round(_issuer().access_tokens.lifetime.total_seconds()),
        refresh_token=pair.refresh_token,
    )


def _issuer() -> TokenIssuer:
    return web_context().part(TokenIssuer)


def _read_form(schema: type[FormType]) -> FormType:
    """Read a form by OAuth 2's rules: the right type, no parameter twice (section 3.2)."""
    if request.mimetype != FORM:
        raise OAuthError(f"Content-Type must be {FORM}")
    read_input()  # refuses a body that is too large; else a part of it would be parsed
    form: MultiDict[str, str] = request.form
    if any(len(values) > 1 for _, values in form.lists()):
        raise OAuthError("A parameter is repeated")
    given = {name: value for name, value in form.items() if value}  # empty is absent
    grant_type = given.get("grant_type")
    if schema is TokenRequest and grant_type not in {None, "password", "refresh_token"}:
        raise UnsupportedGrantType
    try:
        return schema.load_values(given)
    except InvalidRequest as error:
        raise OAuthError(error.detail, errors=error.errors) from None
