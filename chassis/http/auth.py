"""Guards: every route names its callers above its view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar, cast
from uuid import UUID

from flask import g, request

from chassis.errors import Forbidden, InvalidToken, Unauthenticated
from chassis.http.context import web_context
from chassis.security import same_secret
from chassis.signatures import AccessClaims, AccessTokens
from chassis.telemetry.log_fields import add_log_fields

View = TypeVar("View", bound=Callable[..., Any])


class Guard(StrEnum):
    """The callers that a route lets in."""

    PUBLIC = "everyone"
    REGISTRAR = "everyone, or administrators alone when registration is closed"
    USER = "users, for themselves"
    SELF = "the user whom the path names, and nobody for that user"
    OWNER = "the user whose thing it is, and administrators"
    ADMINISTRATOR = "administrators: superusers, and services with the API key"
    SUPERUSER = "superusers, and no service"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: a user, or a service with the API key when `user_id` is None."""

    user_id: UUID | None
    is_administrator: bool
    session_id: UUID | None = None
    """The log-in whose token the request carries, if it names one."""

    @property
    def name(self) -> str:
        """A stable name, for scopes."""
        return str(self.user_id) if self.user_id is not None else "service"


SERVICE = Principal(user_id=None, is_administrator=True)


# Looks the subject of a token up; None without such a live user, or when the log-in has ended.
FindPrincipal = Callable[[AccessClaims], Principal | None]
# Takes a path's parameters; returns the owner of the thing that they name, None without a thing.
FindOwner = Callable[..., UUID | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Turns credentials into a principal. A resource, which knows users, hands the lookup in."""

    api_key: str
    access_tokens: AccessTokens
    find_principal: FindPrincipal
    is_registration_open: bool

    def authenticate(self) -> Principal | None:
        """Return the caller; None when the request carries no credentials.

        Raises:
            Unauthenticated: the credentials are not valid.
        """
        api_key = request.headers.get("X-API-Key")
        if api_key is not None:
            if not same_secret(api_key, self.api_key):
                raise Unauthenticated
            return SERVICE
        authorization = request.headers.get("Authorization")
        return None if authorization is None else self._bearer(authorization)

    def _bearer(self, authorization: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated
        # The lookup ends the token with its user or its log-in, instead of when it expires.
        principal = self.find_principal(self.access_tokens.read(token.strip()))
        if principal is None:
            raise InvalidToken
        return principal


def owner_in_path(user_id: UUID | None = None, **_others: Any) -> UUID | None:
    """Return the path's `user_id`: such a path belongs to the user that it names."""
    return user_id


def requires(guard: Guard, *, find_owner: FindOwner = owner_in_path) -> Callable[[View], View]:
    """Let in only the callers that `guard` names.

    A caller gets 401 without valid credentials, and 403 when valid ones do not suffice. A user
    gets 403 for a thing that does not exist, too, and so learns nothing about others' things.

    Args:
        guard: The callers to let in.
        find_owner: For OWNER and SELF: returns the thing's owner; for OWNER it is not called for
            administrators.
    """

    def mark(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            _check(guard, find_owner, kwargs)
            return view(*args, **kwargs)

        guarded.__dict__["guard"] = guard
        return cast("View", guarded)

    return mark


def public(view: View) -> View:
    """Let everyone in, without a look at credentials."""
    view.__dict__["guard"] = Guard.PUBLIC
    return view


def guard_of(view: Callable[..., Any]) -> Guard | None:
    """Return a view's guard; None when it has none, which a test forbids."""
    return view.__dict__.get("guard")


def principal() -> Principal | None:
    """Return the caller of the guarded view; None for an anonymous one."""
    found: Principal | None = g.get("principal")
    return found


def is_administrator() -> bool:
    """Tell whether the caller of the guarded view is an administrator."""
    caller = principal()
    return caller is not None and caller.is_administrator


def caller_id() -> UUID:
    """Return the id of the user who calls.

    Raises:
        Forbidden: the caller is no user; `Guard.USER` lets only users in.
    """
    caller = principal()
    if caller is None or caller.user_id is None:
        raise Forbidden
    return caller.user_id


def _check(guard: Guard, find_owner: FindOwner, parameters: Mapping[str, Any]) -> None:
    authenticator = web_context().authenticator
    caller = g.principal = authenticator.authenticate()
    if caller is not None and caller.user_id is not None:
        add_log_fields(user_id=str(caller.user_id))
    if guard is Guard.REGISTRAR and authenticator.is_registration_open:
        return
    if caller is None:
        raise Unauthenticated
    if guard is Guard.USER:
        is_allowed = caller.user_id is not None
    elif guard is Guard.SUPERUSER:
        is_allowed = caller.is_administrator and caller.user_id is not None
    elif guard is Guard.SELF:
        is_allowed = _is_owner(caller, find_owner(**parameters))
    else:
        is_allowed = caller.is_administrator or (
            guard is Guard.OWNER and _is_owner(caller, find_owner(**parameters))
        )
    if not is_allowed:
        raise Forbidden


def _is_owner(caller: Principal, owner_id: UUID | None) -> bool:
    # A thing without a known owner belongs to no user; None must not pass for anybody's id.
    return owner_id is not None and owner_id == caller.user_id
