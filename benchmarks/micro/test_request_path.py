"""The parts of a request that matter in its profile, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import count

import pytest
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from benchmarks.database import Database, durable_server
from chassis.http import request_tracing
from chassis.http.layers import wrap
from chassis.security import PasswordHasher
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.users import registration, service
from userservice.users.models import Status
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate, UserRead

BODY = b'{"email":"ada.lovelace@example.com","name":"Ada Lovelace"}'
NOW = datetime.now(UTC)
USER = UserRow(uuid7(), "ada.lovelace@example.com", "Ada Lovelace", Status.ACTIVE, 1, NOW, NOW)


@pytest.fixture(scope="module")
def database():
    with durable_server() as server:
        manager = DatabaseManager(Database(server, "micro").url).initialize()
        yield manager
        manager.close()


def test_validating_a_registration(benchmark):
    assert benchmark(UserCreate.load, BODY).name == "Ada Lovelace"


def test_rendering_a_user(benchmark):
    def render():
        return UserRead.model_validate(USER, from_attributes=True).model_dump_json()

    assert USER.email in benchmark(render)


def test_inserting_a_user(benchmark, database):
    numbers, hasher = count(), PasswordHasher(memory_kib=8, time_cost=1)

    def insert():
        new = UserCreate(email=f"user{next(numbers)}@example.com", name="Ada Lovelace")
        return registration.register_user(database, hasher, new)

    assert benchmark(insert).version == 1


def test_getting_a_user(benchmark, database):
    new = UserCreate(email="get@example.com", name="Ada Lovelace")
    user = registration.register_user(database, PasswordHasher(memory_kib=8, time_cost=1), new)

    assert benchmark(service.get_user, database, user.id) == user


@pytest.mark.parametrize("is_exported", [False, True])
def test_letting_an_unsampled_request_through_the_gate(benchmark, is_exported):
    app = Flask(__name__)
    app.wsgi_app = lambda environ, start_response: [b""]  # type: ignore[method-assign]  # noqa: ARG005
    provider = TracerProvider(sampler=ALWAYS_OFF) if is_exported else None
    wrap(app, [partial(request_tracing.layer, provider=provider)])

    assert benchmark(app.wsgi_app, {"PATH_INFO": "/users"}, None) == [b""]
