"""The documents of /.well-known."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chassis.schemas import Schema


class EcKey(Schema):
    """A public key on P-256 (RFC 7518, section 6.2.1)."""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    kid: str = Field(description="The key's thumbprint (RFC 7638), as in the header of tokens.")
    use: Literal["sig"]
    alg: Literal["ES256"]


class RsaKey(Schema):
    """A public key of RSA (RFC 7518, section 6.3.1)."""

    kty: Literal["RSA"]
    n: str
    e: str
    kid: str = Field(description="The key's thumbprint (RFC 7638), as in the header of tokens.")
    use: Literal["sig"]
    alg: Literal["RS256"]


class KeySet(Schema):
    """The public keys of access tokens that hold, or soon will (RFC 7517)."""

    keys: list[EcKey | RsaKey]


class Metadata(Schema):
    """Addresses and abilities of the service that issues tokens (RFC 8414)."""

    issuer: str = Field(description="The claim iss of access tokens, to the byte.")
    jwks_uri: str
    token_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str = Field(
        description="For services with X-API-Key, which no registered method describes."
    )
    grant_types_supported: list[str]
    response_types_supported: list[str] = Field(
        description="None: there is no authorization endpoint."
    )
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
