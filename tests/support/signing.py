"""Keys that sign tokens, made once in a process, and applications that sign with them."""

from __future__ import annotations

from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from chassis.settings.signing_keys import load_key

ISSUER = "https://id.example.com"
AUDIENCE = "shop"
NAMES = {"token_issuer": ISSUER, "token_audience": AUDIENCE}


def pem(key: Any) -> str:
    """Return a private key as operators keep it."""
    written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return str(written.decode())


def public_pem(private: str) -> str:
    """Return the public part of a private key in PEM."""
    public = load_key(private).public
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@cache
def ec_key(_number: int = 0) -> str:
    """Return a key for ES256, another one for each number."""
    return pem(ec.generate_private_key(ec.SECP256R1()))


@cache
def rsa_key(bits: int = 2048) -> str:
    """Return a key for RS256."""
    return pem(rsa.generate_private_key(public_exponent=65537, key_size=bits))


def signing(key: str = "", **settings: Any) -> dict[str, Any]:
    """Return the settings of a service that signs with a key."""
    return NAMES | {"token_signing_key": key or ec_key()} | settings
