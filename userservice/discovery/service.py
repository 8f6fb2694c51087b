"""The documents by which others learn to verify: made of the configuration, never of a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from chassis.errors import NotFound
from chassis.settings.signing_keys import PublicTokens
from userservice.discovery.schemas import KeySet, Metadata

KEY_SET = "/.well-known/jwks.json"


@dataclass(frozen=True, slots=True)
class Discovery:
    """Keys and names of tokens that others verify.

    Attributes:
        tokens: None while a secret signs, and no key is published.
        max_age: Time for which others may keep the documents.
    """

    tokens: PublicTokens | None
    max_age: timedelta

    def key_set(self) -> KeySet:
        """Return the public keys.

        Raises:
            NotFound: there is none.
        """
        return KeySet.model_validate({"keys": [each.jwk for each in self._published().keys]})

    def metadata(self) -> Metadata:
        """Return the addresses, all of them below the issuer.

        Raises:
            NotFound: there is no key to verify with.
        """
        issuer = self._published().issuer
        return Metadata(
            issuer=issuer,
            jwks_uri=issuer + KEY_SET,
            token_endpoint=f"{issuer}/auth/token",
            revocation_endpoint=f"{issuer}/auth/revoke",
            introspection_endpoint=f"{issuer}/auth/introspect",
            grant_types_supported=["password", "refresh_token"],
            response_types_supported=[],
            token_endpoint_auth_methods_supported=["none"],
            revocation_endpoint_auth_methods_supported=["none"],
        )

    def _published(self) -> PublicTokens:
        if self.tokens is None:
            raise NotFound("No key is published")
        return self.tokens
