"""Private keys: those that sign, the names of their public parts, and those that are refused."""

from __future__ import annotations

from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc.jwk import ECKey, RSAKey

from app import make_token_issuer
from chassis.settings.signing_keys import PublicTokens, load_key
from chassis.settings.variables import ConfigError
from config import AppConfig
from tests.support.signing import ISSUER, ec_key, pem, public_pem, rsa_key, signing

ACCEPTED = "a private key in PEM, without a password: EC on P-256, or RSA of 2048 bits or more"
MEMBERS = {"ES256": {"kty", "crv", "x", "y"}, "RS256": {"kty", "n", "e"}}


def refusals(**settings):
    """Return the sentences with which a configuration is refused."""
    try:
        AppConfig(**settings)
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("key", "algorithm", "library"), [(ec_key(), "ES256", ECKey), (rsa_key(), "RS256", RSAKey)]
)
def test_a_key_has_one_algorithm_and_the_thumbprint_of_rfc_7638_for_a_name(key, algorithm, library):
    loaded = load_key(key)

    assert loaded.algorithm == algorithm
    assert loaded.key_id == library.import_key(public_pem(key)).thumbprint()
    assert loaded.jwk.keys() == MEMBERS[algorithm] | {"kid", "use", "alg"}
    assert (loaded.jwk["kid"], loaded.jwk["use"], loaded.jwk["alg"]) == (
        loaded.key_id,
        "sig",
        algorithm,
    )


def test_one_key_has_one_name_however_it_is_written():
    key = load_key(ec_key())
    traditional = key.private.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()

    assert traditional != ec_key()
    assert load_key(traditional).key_id == key.key_id


def _encrypted():
    key = load_key(ec_key()).private
    secret = BestAvailableEncryption(b"password")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret).decode()


@pytest.mark.parametrize(
    "text",
    [
        "XYZZY",
        "HS256",
        public_pem(ec_key()),
        ec_key().replace("A", "B"),
        ec_key()[:-40],
        _encrypted(),
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ec.generate_private_key(ec.SECP256K1())),
        pem(ed25519.Ed25519PrivateKey.generate()),
        rsa_key(1024),
    ],
    ids=["word", "HS256", "public", "garbled", "cut", "encrypted", "P-384", "K", "Ed", "short"],
)
def test_a_key_that_cannot_sign_is_refused_in_one_line_that_does_not_show_it(text):
    problems = refusals(token_signing_key=text, token_issuer=ISSUER)

    assert problems == [f"TOKEN_SIGNING_KEY must be {ACCEPTED}"]


def test_the_word_for_secrets_stands_in_the_place_of_the_previous_key_alone():
    assert refusals(**signing(token_signing_key_previous="HS256")) == []
    assert refusals(token_signing_key_next="HS256", token_issuer=ISSUER) == [
        f"TOKEN_SIGNING_KEY_NEXT must be {ACCEPTED}"
    ]
    assert refusals(**signing(token_signing_key_previous="hs256")) == [
        f"TOKEN_SIGNING_KEY_PREVIOUS must be {ACCEPTED} or HS256"
    ]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"token_signing_key": ec_key()},
            "TOKEN_ISSUER is required with TOKEN_SIGNING_KEY or TOKEN_SIGNING_KEY_NEXT",
        ),
        (
            {"token_signing_key_next": ec_key()},
            "TOKEN_ISSUER is required with TOKEN_SIGNING_KEY or TOKEN_SIGNING_KEY_NEXT",
        ),
        (
            {"token_signing_key_previous": ec_key()},
            (
                "TOKEN_SIGNING_KEY_PREVIOUS needs a TOKEN_SIGNING_KEY; back to JWT_SECRET goes by "
                "TOKEN_SIGNING_KEY_NEXT"
            ),
        ),
        *(
            (
                signing(token_issuer=issuer),
                "TOKEN_ISSUER must have no query, fragment, credentials or slash at its end",
            )
            for issuer in (
                "https://id.example.com/",
                "https://id.example.com/a?b",
                "https://id.example.com#a",
                "https://a@id.example.com",
            )
        ),
    ],
)
def test_settings_that_can_never_work_are_refused_in_one_line(settings, sentence):
    assert refusals(**settings) == [sentence]


def test_a_production_issues_under_https_alone():
    production = {
        "environment": "production",
        "api_key": "k" * 32,
        "jwt_secret": "s" * 32,
        "database_url": "postgresql://app@db/app",
    }

    assert refusals(**production, **signing()) == []
    assert refusals(**production, **signing(token_issuer="http://id.example.com")) == [
        "TOKEN_ISSUER must begin with https:// in production"
    ]


def test_no_part_of_a_key_shows_in_a_configuration():
    keys = {name: ec_key(number) for number, name in enumerate(("token_signing_key_next", "key"))}
    config = AppConfig(
        **signing(keys["key"], token_signing_key_next=keys["token_signing_key_next"])
    )

    shown = repr(config) + repr(config.public_tokens())

    assert not [line for key in keys.values() for line in key.splitlines()[1:-1] if line in shown]
    assert config.masked()["TOKEN_SIGNING_KEY"] == "***"


def test_a_key_can_come_from_a_file(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text(ec_key())

    config = AppConfig.from_env({"TOKEN_SIGNING_KEY_FILE": str(file), "TOKEN_ISSUER": ISSUER})

    (key,) = config.signing_keys.values()
    assert load_key(key).key_id == load_key(ec_key()).key_id


def test_a_key_that_is_given_twice_is_one():
    key = load_key(ec_key())

    tokens = PublicTokens(issuer=ISSUER, audience="", signing=key, accepted=(key, key))

    assert tokens.keys == (key,)


def test_a_key_is_read_once_however_often_a_configuration_is():
    """RSA takes up to a second to check."""
    first, second = (AppConfig(**signing(rsa_key())).public_tokens() for _ in range(2))

    assert first is not None
    assert second is not None
    assert first.signing is second.signing is load_key(rsa_key())


@pytest.mark.parametrize("name", ["jwt_secret", "jwt_secret_previous"])
@pytest.mark.parametrize(
    "text",
    [ec_key(), public_pem(ec_key()), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA", '{"kty":"oct"}'],
    ids=["private", "public", "SSH", "JWK"],
)
def test_a_secret_that_is_a_key_of_another_kind_is_refused(name, text):
    """Each log-in would fail: the library signs with none of them."""
    assert refusals(**{name: text}) == [
        f"{name.upper()} must be text in UTF-8, and no key in PEM, of SSH or as JWK"
    ]


@pytest.mark.parametrize("text", ["kty", "{}", "[1]", "0" * 64, "a ssh-like secret", "-----BEGIN"])
def test_a_secret_that_only_looks_like_one_signs(text):
    issuer = make_token_issuer(AppConfig(jwt_secret=text))
    user_id = uuid4()

    token = issuer.access_tokens.issue(user_id, uuid4())

    assert issuer.access_tokens.read(token).subject == user_id
