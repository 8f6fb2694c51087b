"""The caller of a request, found by its credentials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from flask import request

from chassis.actor import ENVIRONMENT_KEY
from chassis.errors import InvalidKey, InvalidToken, UnknownScheme
from chassis.security import same_secret
from chassis.signatures import AccessClaims

if TYPE_CHECKING:
    from chassis.access_tokens import AccessTokens  # its library takes 70 ms: for web alone


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: a user, or a service with an API key when `user_id` is None."""

    user_id: UUID | None
    is_administrator: bool
    """Whether it may do everything: a superuser, or a service with the key of the environment."""
    session_id: UUID | None = None
    """The log-in whose token the request carries, if it names one."""
    key_id: str | None = None
    """The id of the API key; None for users."""
    scopes: frozenset[str] = frozenset()
    """The scopes of the API key, if it does not have all."""

    @property
    def name(self) -> str:
        """A stable name, for scopes of idempotency keys."""
        if self.user_id is not None:
            return str(self.user_id)
        # Answers that were stored before there were several keys keep their scope.
        return "service" if self.key_id == ENVIRONMENT_KEY else f"key:{self.key_id}"

    def may(self, scope: str | None) -> bool:
        """Tell whether the caller has the rights of a scope, over things of others."""
        return self.is_administrator or scope in self.scopes


SERVICE = Principal(user_id=None, is_administrator=True, key_id=ENVIRONMENT_KEY)


# Looks the subject of a token up; None without such a live user, or when the log-in has ended.
FindPrincipal = Callable[[AccessClaims], Principal | None]
# Looks an API key up; None when it is unknown, has expired or was revoked.
FindKey = Callable[[str], Principal | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Turns credentials into a principal. Resources, which know users and keys, look them up."""

    api_key: str
    access_tokens: AccessTokens
    find_principal: FindPrincipal
    find_key: FindKey
    is_registration_open: bool

    def authenticate(self) -> Principal | None:
        """Return the caller; None when the request carries no credentials.

        Raises:
            Unauthenticated: the credentials are not valid. Its kind says which, and not why.
        """
        api_key = request.headers.get("X-API-Key")
        if api_key is not None:
            return self._service(api_key)
        authorization = request.headers.get("Authorization")
        return None if authorization is None else self._bearer(authorization)

    def _service(self, api_key: str) -> Principal:
        if same_secret(api_key, self.api_key):
            return SERVICE
        principal = self.find_key(api_key)
        if principal is None:
            raise InvalidKey
        return principal

    def _bearer(self, authorization: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UnknownScheme
        # The lookup ends the token with its user or its log-in, instead of when it expires.
        principal = self.find_principal(self.access_tokens.read(token.strip()))
        if principal is None:
            raise InvalidToken
        return principal
