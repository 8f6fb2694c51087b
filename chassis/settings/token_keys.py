"""Settings of keys that sign access tokens which others verify."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chassis.settings.kinds import header, integer, url
from chassis.settings.signing_keys import PublicTokens, load_key, private_key
from chassis.settings.variables import setting

HS256 = "HS256"  # in the place of a key: tokens of JWT_SECRET


@dataclass(frozen=True, kw_only=True)
class TokenKeySettings:
    """Keys of access tokens that other services verify, and their names."""

    token_signing_key: str = setting(
        "",
        private_key(),
        "Signs access tokens that other services verify; empty: JWT_SECRET does.",
        secret=True,
    )
    token_signing_key_next: str = setting(
        "",
        private_key(),
        "A key that is published and accepted before it signs.",
        secret=True,
    )
    token_signing_key_previous: str = setting(
        "",
        private_key(HS256),
        "The key that signed before, accepted until its tokens have expired.",
        secret=True,
    )
    token_issuer: str = setting(
        "",
        url("http", "https"),
        "Address of the service as `iss` in tokens of these keys; required with any of them.",
    )
    token_audience: str = setting(
        "",
        header(),
        "Name of the services that verify, as a further `aud`; empty: none.",
    )
    jwks_max_age_seconds: int = setting(
        300, integer(0, 86400), "How long others may keep the published keys."
    )

    @property
    def does_secret_hold(self) -> bool:
        """Whether tokens that JWT_SECRET signed are accepted."""
        return not self.token_signing_key or self.token_signing_key_previous == HS256

    @property
    def signing_keys(self) -> dict[str, str]:
        """Variable -> the key in it, in PEM; the one that signs comes first."""
        given = {
            "TOKEN_SIGNING_KEY": self.token_signing_key,
            "TOKEN_SIGNING_KEY_NEXT": self.token_signing_key_next,
            "TOKEN_SIGNING_KEY_PREVIOUS": self.token_signing_key_previous,
        }
        return {name: key for name, key in given.items() if key and key != HS256}

    def public_tokens(self) -> PublicTokens | None:
        """Return keys and names of tokens that others verify; None without such keys."""
        if not self.signing_keys:
            return None
        keys = tuple(load_key(each) for each in self.signing_keys.values())
        return PublicTokens(
            issuer=self.token_issuer,
            audience=self.token_audience,
            signing=keys[0] if self.token_signing_key else None,
            accepted=keys,
        )

    def signing_contradictions(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken."""
        key, following = self.token_signing_key, self.token_signing_key_next
        return {
            "TOKEN_ISSUER is required with TOKEN_SIGNING_KEY or TOKEN_SIGNING_KEY_NEXT": (
                bool(key or following) and not self.token_issuer
            ),
            "TOKEN_ISSUER must have no query, fragment, credentials or slash at its end": (
                re.search("[?#@]|/$", self.token_issuer) is not None
            ),
            "TOKEN_SIGNING_KEY_PREVIOUS needs a TOKEN_SIGNING_KEY; back to JWT_SECRET goes by "
            "TOKEN_SIGNING_KEY_NEXT": (bool(self.token_signing_key_previous) and not key),
        }

    def signing_refusals(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken, for production."""
        return {
            "TOKEN_ISSUER must begin with https:// in production": (
                self.token_issuer.startswith("http:")
            )
        }
