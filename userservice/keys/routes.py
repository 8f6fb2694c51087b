"""/api-keys over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.actor import ENVIRONMENT_KEY
from chassis.errors import FieldError, Forbidden, InsufficientScope, InvalidRequest
from chassis.http.auth import Guard, principal, requires
from chassis.http.authenticator import Principal
from chassis.http.context import backing_services, web_context
from chassis.http.operation import Operation
from chassis.http.pages import read_page
from chassis.http.rate_limit import limit_caller
from chassis.http.web import NO_STORE, empty_response, json_response, read_body
from userservice.keys import service
from userservice.keys.errors import KeyNotFound
from userservice.keys.keyring import Keyring
from userservice.keys.schemas import KeyCreate, KeyCreated, KeyPage, KeyQuery
from userservice.keys.service import Maker
from userservice.scopes import Scope
from userservice.users.credentials import check_password
from userservice.users.errors import WrongPassword

blueprint = Blueprint("api_keys", __name__, url_prefix="/api-keys")


@blueprint.post("")
@requires(Guard.ADMINISTRATOR, Scope.KEYS_MANAGE)
@limit_caller("password")
@Operation(
    "Make an API key",
    tag="api-keys",
    body=KeyCreate,
    returns={201: KeyCreated},
    raises=(InsufficientScope, WrongPassword),
)
def create_api_key() -> Response:
    """The answer shows the key, and nothing shows it again.

    A superuser gives the current password; a service makes keys within its own scopes. There is no
    Idempotency-Key, under which the answer would be stored: revoke a key whose answer was lost.
    """
    new = read_body(KeyCreate)
    caller = _caller()
    service.require_scopes(new.scopes, caller.may)
    row, key = service.create_key(backing_services().database, new, _maker(caller, new))
    document = KeyCreated.model_validate(row._asdict() | {"key": key})
    return json_response(document, HTTPStatus.CREATED, NO_STORE)


@blueprint.get("")
@requires(Guard.ADMINISTRATOR, Scope.KEYS_MANAGE)
@Operation(
    "List API keys",
    tag="api-keys",
    query=KeyQuery,
    returns={200: KeyPage},
    response_headers={200: ("Link",)},
)
def list_api_keys() -> Response:
    """All that were ever made, with names and scopes, and never the keys themselves."""
    page = read_page(KeyQuery)
    rows = service.list_keys(
        backing_services().database, status=page.query.status, after=page.after, limit=page.limit
    )
    return page.response(KeyPage, rows)


@blueprint.delete("/<hex:key_id>")
@requires(Guard.ADMINISTRATOR, Scope.KEYS_MANAGE)
@Operation(
    "Revoke an API key",
    tag="api-keys",
    returns={204: None},
    raises=(KeyNotFound, InsufficientScope),
)
def revoke_api_key(key_id: UUID) -> Response:
    """It ends at once in the process that answers, in others within KEY_CACHE_SECONDS.

    A service revokes keys within its own scopes. A key that was revoked already stays as it is.
    """
    service.revoke_key(backing_services().database, key_id, may=_caller().may)
    web_context().part(Keyring).forget(key_id.hex)
    return empty_response(HTTPStatus.NO_CONTENT)


def _caller() -> Principal:
    caller = principal()
    if caller is None:
        raise Forbidden
    return caller


def _maker(caller: Principal, new: KeyCreate) -> Maker:
    """Return the caller, a user after a look at the password: a stolen token must not suffice."""
    if caller.user_id is None:
        return Maker(caller.key_id, is_key=caller.key_id != ENVIRONMENT_KEY)
    if new.current_password is None:
        sentence = "Current password is required"
        raise InvalidRequest(sentence, errors=[FieldError("/current_password", sentence)])
    services = backing_services()
    password = new.current_password.get_secret_value()
    checked = check_password(services.database, services.hasher, caller.user_id, password)
    return Maker(str(caller.user_id), checked)
