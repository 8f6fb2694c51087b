"""A switch of keys as operators do it: replica by replica, while clients log in and renew.

A replica without settings of keys signs and verifies as the release before does.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

import httpx2
import jwt
import pytest

from tests.support.loopback import NO_TLS
from tests.support.serving import is_serving, serving
from tests.support.signing import AUDIENCE, ISSUER, ec_key
from tests.support.waiting import DEADLINE_SECONDS, eventually

REPLICAS = 3
CLIENTS = 2
EMAIL, WITNESS = "ada@example.com", "witness@example.com"
PASSWORD = "correct horse battery"
A, B = ec_key(0), ec_key(1)
VARIABLES = ("TOKEN_SIGNING_KEY", "TOKEN_SIGNING_KEY_NEXT", "TOKEN_SIGNING_KEY_PREVIOUS")
# Step -> the keys of these variables. Each is a rollout of its own.
PUBLISHED, SIGNING = ("", A, ""), (A, "", "HS256")
DROPPED, ROTATED, DONE = (A, B, ""), (B, "", A), (B, "", "")


class Replicas:
    """The web processes behind one name, and a key set as a service elsewhere keeps it."""

    def __init__(self, folder, database_url, running):
        self._folder = folder
        self._start = lambda **variables: running.enter_context(
            serving(folder, DATABASE_URL=database_url, **variables)
        )
        self.services = [self._start() for _ in range(REPLICAS)]
        self._kept = {}

    @property
    def urls(self):
        return [str(each.client.base_url) for each in self.services]

    def fetch_keys(self):
        """Fetch the key set anew, as a service does whose copy is too old."""
        answer = httpx2.get(
            f"{self.urls[0]}/.well-known/jwks.json", timeout=DEADLINE_SECONDS, verify=NO_TLS
        )
        self._kept = {each.key_id: each for each in jwt.PyJWKSet.from_dict(answer.json()).keys}

    def verify_elsewhere(self, token):
        """Verify by the kept keys alone; raises a PyJWTError."""
        key = self._kept[jwt.get_unverified_header(token)["kid"]]
        jwt.decode(token, key, algorithms=["ES256"], issuer=ISSUER, audience=AUDIENCE)

    def replace(self, number, keys):
        """Give a replica its first settings of keys, which takes another process."""
        self._write(number, keys)
        files = {f"{name}_FILE": str(self._file(number, name)) for name in VARIABLES}
        replaced = self.services[number]
        self.services[number] = self._start(TOKEN_ISSUER=ISSUER, TOKEN_AUDIENCE=AUDIENCE, **files)
        return replaced

    def reload(self, number, keys):
        """Give a replica other keys: it reads its files again, and goes on serving."""
        self._write(number, keys)
        service = self.services[number]
        old = set(service.workers)
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: service.workers and not old & set(service.workers))
        eventually(lambda: is_serving(service))

    def _write(self, number, keys):
        for name, key in zip(VARIABLES, keys, strict=True):
            self._file(number, name).write_text(key)

    def _file(self, number, name):
        return self._folder / f"{number}-{name}"


class Refused(Exception):
    """A client was refused, and gives up."""


class Load:
    """Clients that log in, call every replica, and renew, one after another without an end."""

    def __init__(self, replicas):
        self._replicas = replicas
        self._stopped = threading.Event()
        self.rounds = [0] * CLIENTS
        self.seen: Counter[str] = Counter()
        self.refusals = []

    @contextmanager
    def running(self):
        threads = [threading.Thread(target=self._work, args=(each,)) for each in range(CLIENTS)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._stopped.set()
            for each in threads:
                each.join()

    def pass_on(self):
        """Wait until all clients hold tokens that were made from now on, and have used them."""
        before = list(self.rounds)
        eventually(lambda: self.refusals or all(self._is_past(before)))
        assert self.refusals == []

    def _is_past(self, before):
        # The round under way may have begun before.
        return [now > then + 1 for now, then in zip(self.rounds, before, strict=True)]

    def _work(self, client):
        with suppress(Refused), connecting() as http:
            for number in count(client):
                if self._stopped.wait(0.01):
                    return
                self._round(http, number)
                self.rounds[client] += 1

    def _round(self, http, number):
        urls = self._replicas.urls
        form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD}
        first = self._ask(http, "POST", f"{urls[number % REPLICAS]}/auth/token", data=form)
        self._use(http, first["access_token"], urls)
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        second = self._ask(http, "POST", f"{urls[(number + 1) % REPLICAS]}/auth/token", data=form)
        self._use(http, second["access_token"], urls)

    def _use(self, http, token, urls):
        header = jwt.get_unverified_header(token)
        self.seen[header["kid"]] += 1
        for url in urls:
            self._ask(http, "GET", f"{url}/users/me", headers=bearer(token))
        if header["alg"] != "HS256":
            try:
                self._replicas.verify_elsewhere(token)
            except (jwt.PyJWTError, KeyError) as error:
                self._refuse(f"elsewhere: {error!r}")

    def _ask(self, http, method, url, **options):
        answer = http.request(method, url, **options)
        if answer.status_code != 200:
            self._refuse(f"{method} {url}: {answer.status_code} {answer.text}")
        return answer.json()

    def _refuse(self, reason):
        self.refusals.append(reason)
        raise Refused


def connecting():
    """Return a client that opens a connection for each request, as a balancer spreads them."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.Client(limits=limits, timeout=DEADLINE_SECONDS, verify=NO_TLS)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def register(replicas, email):
    user = {"email": email, "name": "Ada", "password": PASSWORD}
    httpx2.post(f"{replicas.urls[0]}/users", json=user, verify=NO_TLS).raise_for_status()


def grant(replicas, **form):
    answer = httpx2.post(
        f"{replicas.urls[0]}/auth/token", data=form, timeout=DEADLINE_SECONDS, verify=NO_TLS
    )
    return answer.raise_for_status().json()


def log_in(replicas):
    """Log a user in who is not among the clients, whose oldest log-ins end."""
    return grant(replicas, grant_type="password", username=WITNESS, password=PASSWORD)


def statuses(replicas, tokens):
    headers, seconds = bearer(tokens["access_token"]), DEADLINE_SECONDS
    return [
        httpx2.get(f"{url}/users/me", headers=headers, timeout=seconds, verify=NO_TLS).status_code
        for url in replicas.urls
    ]


@pytest.mark.slow
@pytest.mark.integration
def test_nobody_is_refused_while_the_secret_gives_way_to_a_key_and_that_to_another(
    tmp_path, postgresql_url
):
    with ExitStack() as running:
        replicas = Replicas(tmp_path, postgresql_url, running)
        register(replicas, EMAIL)
        register(replicas, WITNESS)
        load = Load(replicas)
        with load.running():
            load.pass_on()
            of_secret = log_in(replicas)
            for number in range(REPLICAS):  # beside the release before, which is half of them
                replaced = replicas.replace(number, PUBLISHED)
                load.pass_on()
                replaced.stop()
            replicas.fetch_keys()
            roll_out(replicas, load, SIGNING)
            of_first = log_in(replicas)
            held = [statuses(replicas, each) for each in (of_secret, of_first)]
            for keys in (DROPPED, ROTATED, DONE):
                roll_out(replicas, load, keys)

        assert load.refusals == []
        assert len(load.seen) == 3  # the secret's name, and those of both keys
        assert held == [[200] * REPLICAS] * 2
        for before in (of_secret, of_first):  # their log-ins live, and they have not expired
            assert statuses(replicas, before) == [401] * REPLICAS
            form = {"grant_type": "refresh_token", "refresh_token": before["refresh_token"]}
            assert statuses(replicas, grant(replicas, **form)) == [200] * REPLICAS


def roll_out(replicas, load, keys):
    """Change the keys of one replica after another; elsewhere the key set is fetched after it."""
    for number in range(REPLICAS):
        replicas.reload(number, keys)
        load.pass_on()
    replicas.fetch_keys()
