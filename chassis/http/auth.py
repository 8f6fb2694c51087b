"""Guards: every route names its callers above its view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar, cast
from uuid import UUID

from flask import g

from chassis.actor import ENVIRONMENT_KEY, SERVICE_ACTOR, ActorKind, act_as, actor
from chassis.errors import Forbidden, InsufficientScope, Unauthenticated
from chassis.http.authenticator import SERVICE, Principal
from chassis.http.context import web_context
from chassis.telemetry.log_fields import add_log_fields

View = TypeVar("View", bound=Callable[..., Any])


class Guard(StrEnum):
    """The callers that a route lets in."""

    PUBLIC = "everyone"
    REGISTRAR = "everyone, or administrators alone when registration is closed"
    USER = "users, for themselves"
    SELF = "the user whom the path names, and nobody for that user"
    OWNER = "the user whose thing it is, and administrators"
    ADMINISTRATOR = "administrators: superusers, and services whose key has the route's scope"
    SUPERUSER = "superusers, and no service"
    SERVICE = "services whose key has the route's scope, and no user"


# Guards that let services in, with a key that has the route's scope.
SCOPED = frozenset({Guard.REGISTRAR, Guard.OWNER, Guard.ADMINISTRATOR, Guard.SERVICE})


@dataclass(frozen=True, slots=True)
class Access:
    """The callers of a route, as it names them above its view.

    Attributes:
        guard: The callers.
        scope: The scope that an API key needs; None where no key is of use.
        parts: Part of the route's work -> the scope that it needs beside that one.

    Raises:
        ValueError: the guard needs a scope, or does not go with one.
    """

    guard: Guard
    scope: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.guard in SCOPED) != (self.scope is not None):
            needs = "needs a" if self.guard in SCOPED else "goes with no"
            raise ValueError(f"{self.guard.name} {needs} scope")

    def scope_of(self, part: str | None) -> str | None:
        """Return the scope of a part; None: of the route."""
        return self.scope if part is None else self.parts[part]


# Takes a path's parameters; returns the owner of the thing that they name, None without a thing.
FindOwner = Callable[..., UUID | None]


def owner_in_path(user_id: UUID | None = None, **_others: Any) -> UUID | None:
    """Return the path's `user_id`: such a path belongs to the user that it names."""
    return user_id


def requires(
    guard: Guard,
    scope: str | None = None,
    *,
    parts: Mapping[str, str] | None = None,
    find_owner: FindOwner = owner_in_path,
) -> Callable[[View], View]:
    """Let in only the callers that `guard` names.

    A caller gets 401 without valid credentials, and 403 when valid ones do not suffice. A user
    gets 403 for a thing that does not exist, too, and so learns nothing about others' things.

    Args:
        guard: The callers to let in.
        scope: The scope that an API key needs; None where no service is let in.
        parts: Part of the work -> the scope that it needs in addition: the view says
            `require_part` before it does that part.
        find_owner: For OWNER and SELF: returns the thing's owner; for OWNER it is not called for
            administrators.
    """
    access = Access(guard, scope, parts or {})

    def mark(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            _check(access, find_owner, kwargs)
            return view(*args, **kwargs)

        guarded.__dict__["access"] = access
        return cast("View", guarded)

    return mark


def public(view: View) -> View:
    """Let everyone in, without a look at credentials."""
    view.__dict__["access"] = Access(Guard.PUBLIC)
    return view


def access_of(view: Callable[..., Any]) -> Access | None:
    """Return a view's callers; None when it names none, which a test forbids."""
    return view.__dict__.get("access")


def guard_of(view: Callable[..., Any]) -> Guard | None:
    """Return a view's guard; None when it has none."""
    access = access_of(view)
    return access.guard if access is not None else None


def principal() -> Principal | None:
    """Return the caller of the guarded view; None for an anonymous one."""
    found: Principal | None = g.get("principal")
    return found


def is_privileged(part: str | None = None) -> bool:
    """Tell whether the caller has the rights of the guarded view's scope, over things of others.

    With `part`, whether it has those of that part's scope.
    """
    caller, access = principal(), _access()
    return caller is not None and access is not None and caller.may(access.scope_of(part))


def require_part(part: str) -> None:
    """Require the scope of a part of the guarded view's work.

    Raises:
        Forbidden: the caller does not have it.
    """
    if not is_privileged(part):
        access = _access()
        raise _refusal(principal(), access.scope_of(part) if access is not None else None)


def caller_id() -> UUID:
    """Return the id of the user who calls.

    Raises:
        Forbidden: the caller is no user; `Guard.USER` lets only users in.
    """
    caller = principal()
    if caller is None or caller.user_id is None:
        raise Forbidden
    return caller.user_id


def _access() -> Access | None:
    found: Access | None = g.get("access")
    return found


def _check(access: Access, find_owner: FindOwner, parameters: Mapping[str, Any]) -> None:
    authenticator = web_context().authenticator
    guard, g.access = access.guard, access
    caller = g.principal = authenticator.authenticate()
    if caller is not None:
        _name(caller)
    if guard is Guard.REGISTRAR and authenticator.is_registration_open:
        return
    if caller is None:
        raise Unauthenticated
    if guard is Guard.USER:
        is_allowed = caller.user_id is not None
    elif guard is Guard.SUPERUSER:
        is_allowed = caller.is_administrator and caller.user_id is not None
    elif guard is Guard.SERVICE:
        is_allowed = caller.user_id is None and caller.may(access.scope)
    elif guard is Guard.SELF:
        is_allowed = _is_owner(caller, find_owner(**parameters))
    else:
        is_allowed = caller.may(access.scope) or (
            guard is Guard.OWNER and _is_owner(caller, find_owner(**parameters))
        )
    if not is_allowed:
        raise _refusal(caller, access.scope)


def _refusal(caller: Principal | None, scope: str | None) -> Forbidden:
    """Return the refusal of a caller; only a key could have got the scope, and learns its name."""
    if caller is None or caller.key_id is None or scope is None:
        return Forbidden()
    return InsufficientScope(scope)


def _name(caller: Principal) -> None:
    """Name the caller in log lines, and in the audit trail."""
    if caller.user_id is not None:
        add_log_fields(user_id=str(caller.user_id))
        act_as(ActorKind.USER, caller.user_id)
    elif caller is SERVICE:
        add_log_fields(key_id=ENVIRONMENT_KEY)
        actor.set(SERVICE_ACTOR)
    elif caller.key_id is not None:
        add_log_fields(key_id=caller.key_id)
        act_as(ActorKind.KEY, caller.key_id)


def _is_owner(caller: Principal, owner_id: UUID | None) -> bool:
    # A thing without a known owner belongs to no user; None must not pass for anybody's id.
    return owner_id is not None and owner_id == caller.user_id
