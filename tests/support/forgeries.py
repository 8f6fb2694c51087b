"""Tokens that a thief of a published key, or of less, could make."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt

from chassis.access_tokens import _key_id
from chassis.settings.signing_keys import load_key
from chassis.signatures import PageTokens
from tests.support.signing import AUDIENCE, ISSUER, ec_key, public_pem, rsa_key
from userservice import SERVICE_NAME

OURS, NEXT, STRANGE = ec_key(0), rsa_key(), ec_key(7)
HOSTILE = "https://hostile.example/keys"


def encode(document):
    text = json.dumps(document, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def by_hand(header, claims, secret):
    """Make a token with a code that no library would make, such as one under a public key."""
    signed = f"{encode(header)}.{encode(claims)}"
    code = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}"


class Forger:
    """Makes tokens that hold, but for what a test says."""

    def __init__(self, config, token):
        self.config = config
        self.token = token
        self.header = jwt.get_unverified_header(token)
        self.claims = jwt.decode(token, options={"verify_signature": False})

    def __call__(self, *, key=OURS, algorithm="ES256", header=None, **claims):
        headers = present(self.header | {"alg": algorithm} | (header or {}))
        return jwt.encode(present(self.claims | claims), key, algorithm, headers=headers)

    def confused(self, secret, **header):
        """Sign with HMAC, with text that everybody knows as the secret."""
        return by_hand(self.header | {"alg": "HS256"} | header, self.claims, secret.encode())

    def with_secret(self, header=None, **claims):
        secret = self.config.jwt_secret
        headers = {"kid": _key_id(secret)} | (header or {})
        own = {"iss": SERVICE_NAME, "aud": SERVICE_NAME}
        return jwt.encode(self.claims | own | claims, secret, "HS256", headers=headers)


def present(members):
    return {name: value for name, value in members.items() if value is not None}


def own_jwk():
    return load_key(STRANGE).jwk


def swap_header(token, **members):
    """Change the header of a token, and leave its code."""
    _, claims, code = token.split(".")
    return f"{encode(jwt.get_unverified_header(token) | members)}.{claims}.{code}"


def without_typ(forge):
    key = load_key(OURS)
    signed = f"{encode(present(forge.header | {'typ': None}))}.{encode(forge.claims)}"
    code = jwt.get_algorithm_by_name("ES256").sign(signed.encode(), key.private)
    return f"{signed}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}"


FORGERIES: dict[str, Callable[[Any], str]] = {
    "HS256 with the public PEM": lambda forge: forge.confused(public_pem(OURS)),
    "HS256 with the public PEM as the name": lambda forge: forge.confused(
        public_pem(OURS), kid=_key_id(public_pem(OURS))
    ),
    "HS256 with the published members": lambda forge: forge.confused(
        json.dumps(dict(load_key(OURS).members))
    ),
    "HS256 with nothing": lambda forge: forge.confused(""),
    "HS256 with the name": lambda forge: forge.confused(load_key(OURS).key_id),
    "HS256 with the secret, which signs no more": Forger.with_secret,
    "HS256 with the secret, under our names": lambda forge: forge.with_secret(
        iss=ISSUER, aud=[SERVICE_NAME, AUDIENCE]
    ),
    "HS256 with the secret, by the name of the key": lambda forge: forge.with_secret(
        header={"kid": load_key(OURS).key_id}
    ),
    "none": lambda forge: by_hand(forge.header | {"alg": "none"}, forge.claims, b""),
    "none without a code": lambda forge: (
        by_hand(forge.header | {"alg": "none"}, forge.claims, b"").rpartition(".")[0] + "."
    ),
    "None": lambda forge: by_hand(forge.header | {"alg": "None"}, forge.claims, b""),
    "alg of another key": lambda forge: swap_header(forge.token, alg="RS256"),
    "alg of the family": lambda forge: swap_header(forge.token, alg="ES384"),
    "kid of another key": lambda forge: swap_header(forge.token, kid=load_key(NEXT).key_id),
    "a strange key by our name": lambda forge: forge(key=STRANGE),
    "the other key by our name": lambda forge: forge(key=NEXT, algorithm="RS256"),
    "our key by the other name": lambda forge: forge(header={"kid": load_key(NEXT).key_id}),
    "the other key and algorithm of its family": lambda forge: forge(
        key=NEXT, algorithm="PS256", header={"kid": load_key(NEXT).key_id}
    ),
    "a strange key by its name": lambda forge: forge(key=STRANGE, header={"kid": own_jwk()["kid"]}),
    "jwk": lambda forge: forge(key=STRANGE, header={"jwk": own_jwk()}),
    "jwk by its name": lambda forge: forge(
        key=STRANGE, header={"jwk": own_jwk(), "kid": own_jwk()["kid"]}
    ),
    "jwk without a name": lambda forge: forge(key=STRANGE, header={"jwk": own_jwk(), "kid": None}),
    "jku": lambda forge: forge(key=STRANGE, header={"jku": HOSTILE, "kid": own_jwk()["kid"]}),
    "x5u": lambda forge: forge(key=STRANGE, header={"x5u": HOSTILE}),
    "x5c": lambda forge: forge(key=STRANGE, header={"x5c": ["MIIB"]}),
    "a name that is an address": lambda forge: forge(key=STRANGE, header={"kid": HOSTILE}),
    "an extension that must be understood": lambda forge: forge(header={"crit": ["exp"], "exp": 1}),
    "typ JWT": lambda forge: forge(header={"typ": "JWT"}),
    "typ of an ID token": lambda forge: forge(header={"typ": "id+jwt"}),
    "no typ": without_typ,
    "typ a list": lambda forge: forge(header={"typ": ["at+jwt"]}),
    "foreign aud": lambda forge: forge(aud=AUDIENCE),
    "foreign aud in a list": lambda forge: forge(aud=[AUDIENCE]),
    "aud that begins like ours": lambda forge: forge(aud=f"{SERVICE_NAME}-x"),
    "no aud": lambda forge: forge(aud=None),
    "foreign iss": lambda forge: forge(iss="https://id.example.net"),
    "iss with a slash": lambda forge: forge(iss=f"{ISSUER}/"),
    "iss of the secret's tokens": lambda forge: forge(iss=SERVICE_NAME),
    "no iss": lambda forge: forge(iss=None),
    "no sub": lambda forge: forge(sub=None),
    "sub that is nobody": lambda forge: forge(sub=str(uuid4())),
    "no exp": lambda forge: forge(exp=None),
    "expired": lambda forge: forge(exp=datetime.now(UTC) - timedelta(seconds=1)),
    "no jti": lambda forge: forge(jti=None),
    "no client_id": lambda forge: forge(client_id=None),
    "no sid": lambda forge: forge(sid=None),
    "sid of no log-in": lambda forge: forge(sid=str(uuid4())),
    "code cut": lambda forge: forge.token[:-2],
    "code of nothing": lambda forge: f"{forge.token.rpartition('.')[0]}.{'A' * 86}",
    "code in DER": lambda forge: f"{forge.token.rpartition('.')[0]}.{'MEUC' * 24}",
    "page token": lambda forge: PageTokens(forge.config.jwt_secret).sign(uuid4()),
}
