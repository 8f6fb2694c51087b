"""Access tokens by each algorithm: the share of a log-in, and of every request with one."""

from __future__ import annotations

import pytest

from app import make_token_issuer
from benchmarks.database import Database, durable_server
from chassis.security import PasswordHasher
from chassis.settings.signing_keys import generate_key
from chassis.signatures import NO_CLAIMS
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from config import AppConfig
from userservice.tokens import service
from userservice.tokens.service import PasswordGrant
from userservice.users import registration
from userservice.users.schemas import UserCreate

ISSUER = "https://id.example.com"
EMAIL, PASSWORD = "ada.lovelace@example.com", "correct horse battery"


@pytest.fixture(scope="module", params=["HS256", "ES256", "RS256"])
def issuer(request):
    """An issuer of tokens; an RSA key has the 3072 bits of `admin keys generate`."""
    if request.param == "HS256":
        return make_token_issuer(AppConfig())
    key = generate_key(request.param)
    return make_token_issuer(AppConfig(token_signing_key=key, token_issuer=ISSUER))


@pytest.fixture(scope="module")
def database():
    with durable_server() as server:
        manager = DatabaseManager(Database(server, "tokens").url).initialize()
        yield manager
        manager.close()


@pytest.fixture(scope="module")
def hasher():
    """Hashes as a service with default settings does."""
    config = AppConfig()
    return PasswordHasher(
        memory_kib=config.password_memory_kib, time_cost=config.password_time_cost
    )


@pytest.fixture(scope="module", autouse=True)
def _user(database, hasher):
    new = UserCreate.model_validate({"email": EMAIL, "name": "Ada", "password": PASSWORD})
    registration.register_user(database, hasher, new)


def test_making_an_access_token(benchmark, issuer):
    assert benchmark(issuer.access_tokens.issue, uuid7(), uuid7(), NO_CLAIMS)


def test_verifying_an_access_token(benchmark, issuer):
    subject = uuid7()
    token = issuer.access_tokens.issue(subject, uuid7())

    assert benchmark(issuer.access_tokens.read, token).subject == subject


def test_logging_in(benchmark, database, hasher, issuer):
    grant = PasswordGrant(EMAIL, PASSWORD)

    assert benchmark(service.log_in, database, hasher, issuer, grant).access_token
