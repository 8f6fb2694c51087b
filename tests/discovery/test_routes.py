"""Documents by which others verify, and libraries that verify by them."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import jwt
import pytest
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc.jwk import KeySet

from chassis.settings.signing_keys import load_key
from tests.conftest import make_app
from tests.support.factories import begin_log_in, make_user
from tests.support.signing import AUDIENCE, ISSUER, NAMES, ec_key, rsa_key, signing
from tests.support.waiting import DEADLINE_SECONDS

KEYS = "/.well-known/jwks.json"
DOCUMENTS = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@pytest.fixture
def ask(config, services):
    """Get a document of a service with these settings."""

    def get(path, settings, **headers):
        client = make_app(replace(config, **settings), services).test_client()
        return client.get(path, headers=headers)

    return get


@pytest.mark.parametrize("path", [KEYS, *DOCUMENTS])
@pytest.mark.parametrize("settings", [{}, NAMES], ids=["nothing", "names alone"])
def test_nothing_is_published_while_there_is_no_key(ask, path, settings):
    response = ask(path, settings)

    assert response.status_code == 404
    assert response.json["code"] == "not_found"


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (NAMES | {"token_signing_key_next": ec_key()}, [ec_key()]),
        (signing(token_signing_key_previous="HS256"), [ec_key()]),
        (signing(rsa_key()), [rsa_key()]),
        (
            signing(
                ec_key(), token_signing_key_next=ec_key(1), token_signing_key_previous=rsa_key()
            ),
            [ec_key(), ec_key(1), rsa_key()],
        ),
    ],
    ids=["next", "beside the secret", "RSA", "three"],
)
def test_the_key_set_has_the_public_part_of_each_key_that_holds_and_no_secret(ask, settings, keys):
    response = ask(KEYS, settings)

    assert response.json == {"keys": [load_key(each).jwk for each in keys]}
    assert all(not each.keys() & PRIVATE for each in response.json["keys"])
    assert {each["kty"] for each in response.json["keys"]} <= {"EC", "RSA"}
    assert response.content_type == "application/json"


@pytest.mark.parametrize("path", [KEYS, *DOCUMENTS])
def test_everybody_may_keep_a_document_for_as_long_as_is_configured(ask, path):
    ages = [
        ask(path, signing() | settings).headers["Cache-Control"]
        for settings in ({}, {"jwks_max_age_seconds": 60})
    ]

    assert ages == ["public, max-age=300", "public, max-age=60"]


def test_the_metadata_name_the_issuer_to_the_byte_and_only_what_there_is(ask, app):
    issuer = f"{ISSUER}/people"
    found = [
        ask(path, signing(token_issuer=issuer), Host="hostile.example").json for path in DOCUMENTS
    ]

    assert found[0] == found[1]
    assert found[0]["issuer"] == issuer
    assert found[0]["grant_types_supported"] == ["password", "refresh_token"]
    assert found[0]["response_types_supported"] == []
    assert not found[0].keys() & {"authorization_endpoint", "id_token_signing_alg_values_supported"}
    addresses = [value for name, value in found[0].items() if name.endswith(("_endpoint", "_uri"))]
    paths = {urlsplit(each).path.removeprefix("/people") for each in addresses}
    assert all(each.startswith(f"{issuer}/") for each in addresses)
    assert paths <= {rule.rule for rule in app.url_map.iter_rules()}
    assert len(paths) == len(addresses) > 2


@pytest.mark.parametrize("key", [ec_key(), rsa_key()], ids=["ES256", "RS256"])
def test_pyjwt_verifies_with_the_published_key_and_caches_it(serve, tmp_path, key):
    file = tmp_path / "key.pem"
    file.write_text(key)
    service = serve(TOKEN_SIGNING_KEY_FILE=str(file), TOKEN_ISSUER=ISSUER, TOKEN_AUDIENCE=AUDIENCE)
    email, password = "ada@example.com", "correct horse battery"
    made = service.client.post("/users", json={"email": email, "name": "A", "password": password})
    form = {"grant_type": "password", "username": email, "password": password}
    token = service.client.post("/auth/token", data=form).json()["access_token"]

    library = jwt.PyJWKClient(f"{service.client.base_url}{KEYS}", timeout=DEADLINE_SECONDS)
    found = [library.get_signing_key_from_jwt(token) for _ in range(2)]

    claims = [
        jwt.decode(token, each, algorithms=["ES256", "RS256"], issuer=ISSUER, audience=AUDIENCE)
        for each in found
    ]
    assert [each["sub"] for each in claims] == [made.json()["id"]] * 2
    assert service.total("http_requests_total", endpoint="discovery.get_key_set") == 1


class Validator(JWTBearerTokenValidator):  # type: ignore[misc]  # it has no types
    """authlib's validator by RFC 9068; it caches nothing, so a service must keep the keys."""

    def __init__(self, keys):
        super().__init__(issuer=ISSUER, resource_server=AUDIENCE)
        self._keys = keys

    def get_jwks(self):
        return self._keys


@pytest.mark.parametrize("key", [ec_key(), rsa_key()], ids=["ES256", "RS256"])
def test_authlib_finds_all_that_rfc_9068_asks_for(ask, database, config, key):
    user = make_user(database)
    token = begin_log_in(database, replace(config, **signing(key)), user).access_token
    validator = Validator(KeySet.import_key_set(ask(KEYS, signing(key)).json))

    found = validator.authenticate_token(token)

    validator.validate_token(found, [], None)
    assert found["sub"] == str(user.id)
    assert found.header["typ"] == "at+jwt"
