"""Private keys that sign tokens, and the public ones by which others verify them."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.once import once
from chassis.settings.kinds import Kind

ES256, RS256 = ALGORITHMS = ("ES256", "RS256")
RSA_BITS = 3072  # of new keys: about as hard to break as P-256
MIN_RSA_BITS = 2048  # the least of RFC 7518, section 3.3
# Signs of a key of another kind, which are rare in a secret.
_MARKS = re.compile(r"-----BEGIN|ssh-|ecdsa-|kty")
# Members of a public key, of which its name is made (RFC 7638, section 3.2).
_MEMBERS = ("crv", "e", "kty", "n", "x", "y")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the one algorithm that it signs with, and the name that tokens give it.

    Attributes:
        private: The key, as PyJWT takes it.
        public: The key to verify with, as PyJWT takes it.
        algorithm: ES256 or RS256 (RFC 7518, section 3.1).
        members: The public key as others read it (RFC 7517, section 4), without its name.
    """

    private: Any = field(repr=False)
    public: Any = field(repr=False)
    algorithm: str
    members: Mapping[str, str]

    @property
    def key_id(self) -> str:
        """The thumbprint of the public key (RFC 7638): different keys have different names."""
        document = json.dumps(self.members, separators=(",", ":"), sort_keys=True)
        digest = hashlib.sha256(document.encode()).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as others read it, with its name, its use and its algorithm."""
        return {**self.members, "kid": self.key_id, "use": "sig", "alg": self.algorithm}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTokens:
    """Tokens that others verify: their names, and the keys that hold here.

    Attributes:
        issuer: Address of the issuer, to the byte.
        audience: The services that they are meant for, beside the one that issues them.
        signing: The key that signs; None while a secret does, and these keys only hold.
        accepted: All keys that hold, because this replica or another one signs with them.
    """

    issuer: str
    audience: str
    signing: SigningKey | None
    accepted: tuple[SigningKey, ...]

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """All keys that hold, each once."""
        return tuple({each.key_id: each for each in self.accepted}.values())


def private_key(*words: str) -> Kind:
    """Accept a private key to sign with, or one of some `words` instead."""

    def parse(raw: str) -> str:
        if raw not in words:
            load_key(raw)
        return raw

    key = f"a private key in PEM, without a password: EC on P-256, or RSA of {MIN_RSA_BITS} bits"
    return Kind(" or ".join((f"{key} or more", *words)), parse)


def signing_secret() -> Kind:
    """Accept a text that signs HS256; the library refuses keys of other kinds at each signature."""

    def parse(raw: str) -> str:
        raw.encode()  # raises a ValueError
        if _MARKS.search(raw):
            from jwt import InvalidKeyError  # noqa: PLC0415 - see `load_key`
            from jwt.algorithms import HMACAlgorithm  # noqa: PLC0415

            try:
                HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(raw)
            except InvalidKeyError as error:
                raise ValueError from error
        return raw

    return Kind("text in UTF-8, and no key in PEM, of SSH or as JWK", parse)


@once
def load_key(pem: str) -> SigningKey:
    """Read a private key from PEM, each one once in a process: RSA takes up to a second to check.

    Processes that are forked from one that has read it, as gunicorn's are, have it already.

    Raises:
        ValueError: it is none, needs a password, or is for none of the algorithms here.
    """
    # The library takes 75 ms and 10 MiB to load; workers and commands without a key do not need it.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        private = load_pem_private_key(pem.encode(), password=None)
    except (TypeError, UnsupportedAlgorithm) as error:  # the former: it needs a password
        raise ValueError from error
    return _with_algorithm(private)


def generate_key(algorithm: str) -> str:
    """Make a private key for one of `ALGORITHMS`, in PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == ES256:
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _with_algorithm(private: Any) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - see above
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm  # noqa: PLC0415

    public = private.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        return SigningKey(private, public, ES256, _members(jwk))
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= MIN_RSA_BITS:
        jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        return SigningKey(private, public, RS256, _members(jwk))
    raise ValueError


def _members(jwk: Mapping[str, Any]) -> dict[str, str]:
    """Return the members of a public key alone, whatever the library adds one day."""
    return {name: str(jwk[name]) for name in _MEMBERS if name in jwk}
