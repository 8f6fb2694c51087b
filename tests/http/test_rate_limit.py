"""Rate limits: who is counted as whom, where, and what the caller is told."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from limits import strategies
from limits.storage import memory

from chassis.http import rate_limit
from chassis.http.rate_limit import RateLimiter, client_network
from tests.conftest import API_KEY, make_app
from tests.support.factories import ADA, bearer_of, make_user
from tests.support.servers import ValkeyServer

LIMITS = {"registration": "3/minute"}
TIMEOUT = timedelta(milliseconds=250)
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def limited(config):
    """A configuration that allows three registrations and two log-ins a minute."""
    return replace(
        config,
        rate_limit_enabled=True,
        rate_limit_registration="3/minute",
        rate_limit_login="2/minute",
    )


@pytest.fixture
def client(limited, services):
    return make_app(limited, services).test_client()


class Clock:
    """Stands still until it is moved; at first in the middle of a minute."""

    def __init__(self):
        self.now = 1_800_000_030.5

    def time(self):
        return self.now

    monotonic = time


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The clock of the limiter and of its library: a window may not end during a test."""
    clock = Clock()
    for module in (rate_limit, memory, strategies):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def silent_redis():
    """URL of a server that takes connections and never says a word, and how many it took."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)

        def taken():
            count = 0
            while True:
                try:
                    server.accept()[0].close()
                except BlockingIOError:
                    return count
                count += 1

        yield f"redis://127.0.0.1:{server.getsockname()[1]}", taken


def person(number):
    return ADA | {"email": f"person{number}@example.com"}


def register(client, number=1, **options):
    return client.post("/users", json=person(number), **options)


def log_in(client, username="nobody@example.com", **options):
    form = {"grant_type": "password", "username": username, "password": "wrong"}
    return client.post("/auth/token", data=form, **options)


def statuses(responses):
    return [response.status_code for response in responses]


def test_a_client_may_register_as_often_as_configured(client):
    responses = [register(client, number) for number in range(4)]

    assert statuses(responses) == [201, 201, 201, 429]


def test_a_client_may_log_in_as_often_as_configured(client):
    responses = [log_in(client, f"nobody{number}@example.com") for number in range(3)]

    assert statuses(responses) == [400, 400, 429]
    assert responses[-1].json["error"] == "too_many_requests"  # not a fault of the request
    assert responses[-1].json["error_description"] == "Too many requests"
    assert responses[-1].headers["Cache-Control"] == "no-store"


def test_limits_count_apart(client):
    for number in range(3):
        log_in(client, f"nobody{number}@example.com")

    assert register(client).status_code == 201


def test_clients_count_apart(client):
    for number in range(4):
        register(client, number)

    response = register(client, 9, environ_base={"REMOTE_ADDR": "192.0.2.9"})

    assert response.status_code == 201


def test_an_address_is_limited_whoever_the_client_is(client):
    responses = [
        log_in(client, environ_base={"REMOTE_ADDR": f"192.0.2.{number}"}) for number in range(3)
    ]

    assert statuses(responses) == [400, 400, 429]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ada@example.com", " ADA@Example.com "),
        ("z\u00e9@example.com", "Ze\u0301@example.com"),
    ],
    ids=["case and blanks", "composed and decomposed"],
)
def test_another_spelling_of_an_address_is_no_way_around(client, first, second):
    spellings = [first, second, first]

    responses = [
        log_in(client, spelling, environ_base={"REMOTE_ADDR": f"192.0.2.{number}"})
        for number, spelling in enumerate(spellings)
    ]

    assert statuses(responses) == [400, 400, 429]


def test_the_registration_of_an_address_is_limited_whoever_the_client_is(client):
    responses = [
        register(client, environ_base={"REMOTE_ADDR": f"192.0.2.{number}"}) for number in range(4)
    ]

    assert statuses(responses) == [201, 409, 409, 429]


def test_another_key_each_time_is_no_way_around_the_limit_of_an_address(client):
    responses = [
        register(
            client,
            headers={"Idempotency-Key": f"key-{number}"},
            environ_base={"REMOTE_ADDR": f"192.0.2.{number}"},
        )
        for number in range(4)
    ]

    assert statuses(responses) == [201, 409, 409, 429]


def test_requests_that_fail_count_as_well(client):
    responses = [client.post("/users", json={}) for _ in range(4)]

    assert statuses(responses) == [400, 400, 400, 429]


def test_the_headers_tell_where_a_caller_stands(client):
    first, second = (register(client, number) for number in range(2))

    assert first.headers["RateLimit-Policy"] == '"registration";q=3;w=60'
    assert first.headers["RateLimit"].startswith('"registration";r=2;t=')
    assert second.headers["RateLimit"].startswith('"registration";r=1;t=')


def test_the_headers_tell_of_the_limit_that_is_nearest(client):
    log_in(client, environ_base={"REMOTE_ADDR": "192.0.2.1"})

    response = log_in(client, environ_base={"REMOTE_ADDR": "192.0.2.2"})

    assert response.headers["RateLimit"].startswith('"login";r=0;')


def test_a_refusal_is_a_problem_that_says_when_to_come_back(client):
    for number in range(3):
        register(client, number)

    response = register(client, 4)

    assert response.status_code == 429
    assert response.content_type == "application/problem+json"
    assert response.json["code"] == "too_many_requests"
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit"].startswith('"registration";r=0;')
    assert response.headers["RateLimit"].endswith(f"t={response.headers['Retry-After']}")


def test_who_comes_back_when_told_to_is_let_in(client, clock):
    for number in range(3):
        register(client, number)
    refused = register(client, 4)

    clock.now += int(refused.headers["Retry-After"])

    assert register(client, 4).status_code == 201


def test_a_refusal_does_not_put_the_next_try_off(client, clock):
    for number in range(30):
        register(client, number)

    clock.now += 60

    assert register(client, 31).status_code == 201


def test_routes_without_a_limit_say_nothing_of_one(client):
    assert "RateLimit" not in client.get("/health").headers


def test_administrators_are_not_limited(client, config, database):
    superuser = make_user(database, is_superuser=True)
    callers = [{"X-API-Key": API_KEY}, bearer_of(database, config, superuser)]

    responses = [register(client, number, headers=callers[number % 2]) for number in range(8)]

    assert statuses(responses) == [201] * 8
    assert all("RateLimit" not in response.headers for response in responses)


def test_a_wrong_key_is_no_way_around(client):
    responses = [register(client, n, headers={"X-API-Key": "wrong"}) for n in range(4)]

    assert statuses(responses) == [401] * 4


def test_limits_can_be_switched_off(limited, services):
    client = make_app(replace(limited, rate_limit_enabled=False), services).test_client()

    responses = [register(client, number) for number in range(6)]

    assert statuses(responses) == [201] * 6
    assert "RateLimit" not in responses[0].headers


def test_processes_count_together_in_redis(limited, services, redis, redis_url):
    shared = replace(limited, redis_url=redis_url)
    clients = [make_app(shared, services).test_client() for _ in range(2)]

    responses = [register(clients[number % 2], number) for number in range(4)]

    assert statuses(responses) == [201, 201, 201, 429]
    assert redis.dbsize() > 0


def test_processes_count_alone_without_redis(limited, services):
    clients = [make_app(limited, services).test_client() for _ in range(2)]

    responses = [register(clients[number % 2], number) for number in range(6)]

    assert statuses(responses) == [201] * 6


def test_redis_sees_no_e_mail_address(limited, services, redis, redis_url):
    client = make_app(replace(limited, redis_url=redis_url), services).test_client()

    register(client)
    log_in(client, "ada@example.com")

    seen = repr([(key, redis.get(key)) for key in redis.scan_iter()])
    assert "address" in seen
    assert "@" not in seen
    assert "example" not in seen


def test_what_redis_keeps_expires(limited, services, redis, redis_url):
    client = make_app(replace(limited, redis_url=redis_url), services).test_client()

    register(client)

    assert all(0 < redis.ttl(key) <= 120 for key in redis.scan_iter())
    assert redis.dbsize() > 0


def test_the_library_counts_for_one_thread_at_a_time(monkeypatch):
    """Its memory starts a thread by two steps; two callers between them start the same one."""
    begun = threading.Event()

    class Observed(memory.MemoryStorage):
        def acquire_sliding_window_entry(self, *arguments):
            if not begun.is_set():
                begun.set()
                second.start()
                second.join(0.2)
                seen.append(second.is_alive())
            return super().acquire_sliding_window_entry(*arguments)

    monkeypatch.setattr("limits.storage.MemoryStorage", Observed)
    limiter = RateLimiter(LIMITS, redis_url="", timeout=TIMEOUT)
    seen: list[bool] = []
    second = threading.Thread(target=limiter.hit, args=("registration", "client"))

    limiter.hit("registration", "client")
    second.join()

    assert seen == [True]  # it waited for the first one to come out
    assert limiter.hit("registration", "client").remaining == 0


@pytest.mark.parametrize("redis_url", [NOWHERE, "redis://127.0.0.1:1/0?password=secret-3907"])
def test_without_redis_the_process_counts_for_itself(redis_url, caplog):
    limiter = RateLimiter(LIMITS, redis_url=redis_url, timeout=TIMEOUT)

    verdicts = [limiter.hit("registration", "client").is_allowed for _ in range(4)]

    assert verdicts == [True, True, True, False]
    assert caplog.messages == ["Rate limits fall back to this process"]
    assert "secret-3907" not in caplog.text


def test_a_redis_that_hangs_costs_one_timeout_and_is_left_alone_for_a_while(silent_redis, clock):
    url, taken = silent_redis
    limiter = RateLimiter(LIMITS, redis_url=url, timeout=TIMEOUT)

    first = [limiter.hit("registration", "client").is_allowed for _ in range(3)]
    asked_at_first = taken()
    clock.now += rate_limit.PAUSE_SECONDS - 0.1
    limiter.hit("registration", "client")
    asked_during_the_pause = taken()
    clock.now += 0.2
    limiter.hit("registration", "client")
    asked_after_it = taken()

    assert first == [True] * 3
    assert (asked_at_first, asked_during_the_pause, asked_after_it) == (1, 0, 1)


@pytest.mark.integration
def test_redis_is_used_again_once_it_is_back(clock, caplog):
    caplog.set_level("INFO", logger=rate_limit.__name__)
    with ValkeyServer() as server:
        limiter = RateLimiter(LIMITS, redis_url=server.url, timeout=TIMEOUT)
        server.stop()
        alone = []
        for _ in range(2):
            alone.append(limiter.hit("registration", "client").remaining)
            clock.now += rate_limit.PAUSE_SECONDS
        server.start()
        together = limiter.hit("registration", "client").remaining

    assert alone == [2, 1]
    assert together == 2
    assert caplog.messages == [
        "Rate limits fall back to this process",
        "Rate limits are counted together again",
    ]


def test_forwarded_addresses_are_ignored_by_default(client):
    responses = [
        register(client, number, headers={"X-Forwarded-For": f"198.51.100.{number}"})
        for number in range(4)
    ]

    assert statuses(responses) == [201, 201, 201, 429]


@pytest.mark.parametrize("hops", [1, 2])
def test_the_address_is_taken_from_as_many_hops_as_are_trusted(limited, services, hops):
    app = make_app(replace(limited, trusted_proxy_hops=hops), services)
    client = app.test_client()
    proxies = ["203.0.113.1"] * (hops - 1)

    def forwarded(spoofed, address):
        return {"X-Forwarded-For": ", ".join([*spoofed, address, *proxies])}

    apart = [register(client, n, headers=forwarded([], f"198.51.100.{n}")) for n in range(4)]
    spoofing = [
        register(client, 10 + n, headers=forwarded([f"192.0.2.{n}"], "198.51.100.99"))
        for n in range(4)
    ]

    assert statuses(apart) == [201] * 4
    assert statuses(spoofing) == [201, 201, 201, 429]


def test_too_few_forwarded_addresses_name_nobody_but_the_peer(limited, services):
    client = make_app(replace(limited, trusted_proxy_hops=2), services).test_client()

    responses = [
        register(client, number, headers={"X-Forwarded-For": f"198.51.100.{number}"})
        for number in range(4)
    ]

    assert statuses(responses) == [201, 201, 201, 429]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("no address", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address, network):
    with Flask("test").test_request_context(environ_base={"REMOTE_ADDR": address}):
        assert client_network() == network
