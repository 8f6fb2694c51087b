"""Password hashes of other programs, in the encodings that these write.

| Algorithm | Encodings | At most |
|---|---|---|
| argon2id, argon2i | PHC: `$argon2id$v=19$m=...,t=...,p=...$salt$hash`; Django's `argon2$argon2id$...` | 64 MiB, 10 passes, 4 lanes |
| bcrypt | `$2a$`, `$2b$`, `$2y$`; Django's `bcrypt$$2b$...` | cost 14 |
| PBKDF2 with SHA-256 or SHA-512 | Django's `pbkdf2_sha256$...`, passlib's and PHC's `$pbkdf2-sha256$...`, Werkzeug's `pbkdf2:sha256:...` | 2,000,000 iterations |

`normalize` returns one form of each, and `PasswordHasher` verifies these.
"""  # noqa: E501 - a table

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from contextlib import suppress

import argon2
import bcrypt

MAX_LENGTH = 512
MAX_MEMORY_KIB = 64 * 1024
MAX_PASSES = 10
MAX_LANES = 4
MAX_BCRYPT_COST = 14
LEAST_BCRYPT_COST = 4
MAX_ITERATIONS = 2_000_000
# Of a shorter digest, another password might have the same.
MIN_DIGEST_BYTES = 16
# bcrypt reads no more of a password. Its library refuses longer ones, which others cut.
BCRYPT_BYTES = 72
# The letters of its base64 whose last two bits are zero.
_BCRYPT_ENDS = ".CGKOSWaeimquy26"

_ARGON2 = re.compile(
    r"(?:argon2)?(?P<type>\$argon2id?\$(?:v=\d{1,2}\$)?)"
    r"m=(?P<memory>\d{1,10}),t=(?P<passes>\d{1,10}),p=(?P<lanes>\d{1,10})"
    r"(?P<rest>\$[\w+/]+\$(?P<digest>[\w+/]+))",
    re.ASCII,
)
_BCRYPT = re.compile(
    r"(?:bcrypt\$)?(?P<type>\$2[aby]\$)(?P<cost>\d\d)(?P<rest>\$[./A-Za-z0-9]{53})"
)
_PBKDF2 = re.compile(
    r"\$pbkdf2-(?P<digest>sha256|sha512)\$(?:i=)?(?P<iterations>\d{1,10})(?:,l=\d{1,3})?"
    r"\$(?P<salt>[\w+/.]*)\$(?P<hash>[\w+/.]+)",
    re.ASCII,
)
_DJANGO = re.compile(
    r"pbkdf2_(?P<digest>sha256)\$(?P<iterations>\d{1,10})\$(?P<salt>[^$]+)\$(?P<hash>[\w+/=]+)",
    re.ASCII,
)
_WERKZEUG = re.compile(
    r"pbkdf2:(?P<digest>sha256|sha512):(?P<iterations>\d{1,10})"
    r"\$(?P<salt>[^$]+)\$(?P<hash>(?:[0-9a-f]{2})+)"
)

UNKNOWN = "must be a hash by argon2id, argon2i, bcrypt, pbkdf2-sha256 or pbkdf2-sha512"
MALFORMED = "is not well-formed"


def normalize(encoded: str) -> str:
    """Return a hash in the form that is stored and verified.

    Raises:
        ValueError: it is none of those above, malformed, or too costly to verify; the text
            follows the name of a member.
    """
    if found := _ARGON2.fullmatch(encoded):
        return _normalize_argon2(found)
    if found := _BCRYPT.fullmatch(encoded):
        return _normalize_bcrypt(found)
    if found := _PBKDF2.fullmatch(encoded):
        return _normalize_pbkdf2(found, _from_base64(found["salt"]), _from_base64(found["hash"]))
    if found := _DJANGO.fullmatch(encoded):
        return _normalize_pbkdf2(found, found["salt"].encode(), _from_base64(found["hash"]))
    if found := _WERKZEUG.fullmatch(encoded):
        return _normalize_pbkdf2(found, found["salt"].encode(), bytes.fromhex(found["hash"]))
    raise ValueError(UNKNOWN)


def is_foreign(stored: str) -> bool:
    """Tell whether a stored hash is by another algorithm than argon2."""
    return stored.startswith(("$2", "$pbkdf2-"))


def verify(stored: str, password: str) -> bool:
    """Tell whether a password is the hashed one, of a hash that is foreign."""
    with suppress(ValueError):  # of a hash that no import stored
        if found := _PBKDF2.fullmatch(stored):
            return _verify_pbkdf2(found, password.encode())
        if _BCRYPT.fullmatch(stored):
            return bcrypt.checkpw(password.encode()[:BCRYPT_BYTES], stored.encode())
    return False


def _verify_pbkdf2(found: re.Match[str], password: bytes) -> bool:
    expected, salt = _from_base64(found["hash"]), _from_base64(found["salt"])
    iterations = int(found["iterations"])
    digest = hashlib.pbkdf2_hmac(found["digest"], password, salt, iterations, len(expected))
    return hmac.compare_digest(digest, expected)


def _normalize_argon2(found: re.Match[str]) -> str:
    memory, passes, lanes = (int(found[name]) for name in ("memory", "passes", "lanes"))
    if memory > MAX_MEMORY_KIB or passes > MAX_PASSES or lanes > MAX_LANES:
        mebibytes = MAX_MEMORY_KIB // 1024
        raise ValueError(
            f"costs too much: argon2 may take {mebibytes} MiB, {MAX_PASSES} passes, "
            f"{MAX_LANES} lanes"
        )
    _require_length(_from_base64(found["digest"]))
    if memory < 8 * lanes or not passes or not lanes:
        raise ValueError(MALFORMED)
    # The library reads it at the least cost.
    _require_argon2(f"{found['type']}m={8 * lanes},t=1,p={lanes}{found['rest']}")
    return f"{found['type']}m={memory},t={passes},p={lanes}{found['rest']}"


def _require_argon2(encoded: str) -> None:
    try:
        with suppress(argon2.exceptions.VerifyMismatchError):
            argon2.PasswordHasher().verify(encoded, "")
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        raise ValueError(MALFORMED) from None


def _normalize_bcrypt(found: re.Match[str]) -> str:
    if int(found["cost"]) > MAX_BCRYPT_COST:
        raise ValueError(f"costs too much: bcrypt may have a cost of {MAX_BCRYPT_COST}")
    stored = found["type"] + found["cost"] + found["rest"]
    # The library reads it at the least cost; spare bits must be zero, or nothing matches.
    least = f"{found['type']}{LEAST_BCRYPT_COST:02}{found['rest']}"
    if int(found["cost"]) < LEAST_BCRYPT_COST or stored[-1] not in _BCRYPT_ENDS:
        raise ValueError(MALFORMED)
    try:
        bcrypt.checkpw(b"", least.encode())
    except ValueError:
        raise ValueError(MALFORMED) from None
    return stored


def _normalize_pbkdf2(found: re.Match[str], salt: bytes, digest: bytes) -> str:
    iterations = int(found["iterations"])
    if iterations > MAX_ITERATIONS:
        raise ValueError(f"costs too much: PBKDF2 may have {MAX_ITERATIONS:,} iterations")
    _require_length(digest)
    if not iterations or len(digest) > hashlib.new(found["digest"]).digest_size:
        raise ValueError(MALFORMED)
    parts = (f"pbkdf2-{found['digest']}", str(iterations), _to_base64(salt), _to_base64(digest))
    return "$" + "$".join(parts)


def _require_length(digest: bytes) -> None:
    if len(digest) < MIN_DIGEST_BYTES:
        raise ValueError(f"must have a digest of at least {MIN_DIGEST_BYTES} bytes")


def _from_base64(text: str) -> bytes:
    """Read base64 with or without padding; passlib writes a full stop for a plus."""
    plain = text.rstrip("=").replace(".", "+")
    try:
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except binascii.Error:
        raise ValueError(MALFORMED) from None


def _to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode().rstrip("=")
