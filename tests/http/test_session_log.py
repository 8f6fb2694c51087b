"""A whole session at the most talkative log level: nothing personal, nothing secret."""

from __future__ import annotations

import json
import uuid

import pytest
import requests

from tests.support.waiting import DEADLINE_SECONDS
from tests.support.web import serve

API_KEY = "api-key-that-stands-nowhere"
JWT_SECRET = "jwt-secret-that-stands-nowhere-else"
PASSWORD = "a password that stands nowhere"
WRONG = "a wrong one that stands nowhere"
NAME = "Zerlina Quixotic"
RENAMED = "Yolanda Quixotic"
EMAIL = "zerlina.private@example.org"
NOBODY = "nobody.private@example.org"
KEY = "idempotency-key-that-stands-nowhere"


class Session:
    """A user's way through the API; `secrets` are all that was sent or answered in confidence."""

    def __init__(self, web):
        self._url = web.url
        self._http = requests.Session()
        self.secrets = [
            API_KEY, JWT_SECRET, PASSWORD, WRONG, NAME, RENAMED, EMAIL, NOBODY, KEY, "private@",
        ]  # fmt: skip
        self.statuses = []

    def close(self):
        self._http.close()

    def send(self, method, path, **options):
        response = self._http.request(
            method, f"{self._url}{path}", timeout=DEADLINE_SECONDS, **options
        )
        self.statuses.append(response.status_code)
        return response

    def grant(self, **form):
        response = self.send("POST", "/auth/token", data=form)
        answer = response.json() if response.ok else {}
        self.secrets += [answer[name] for name in ("access_token", "refresh_token") if answer]
        return answer


def drive(session):
    """Register, log in, read, change, renew, log out; and everything that can go wrong."""
    new = {"email": EMAIL, "name": NAME, "password": PASSWORD}
    user = session.send("POST", "/users", json=new, headers={"Idempotency-Key": KEY})
    session.send("POST", "/users", json=new, headers={"Idempotency-Key": KEY})
    session.send("POST", "/users", json=new)
    session.send("POST", "/users", json=new | {"email": f"{EMAIL}\n{EMAIL}", "name": ""})
    session.send("POST", "/users", data=b"{" + PASSWORD.encode(), headers=JSON)
    session.grant(grant_type="password", username=EMAIL, password=WRONG)
    session.grant(grant_type="password", username=NOBODY, password=PASSWORD)
    first = session.grant(grant_type="password", username=EMAIL, password=PASSWORD)
    second = session.grant(grant_type="refresh_token", refresh_token=first["refresh_token"])
    bearer = {"Authorization": f"Bearer {second['access_token']}"}
    session.send("GET", "/users/me", headers=bearer)
    session.send("PATCH", user.headers["Location"], json={"name": RENAMED}, headers=bearer)
    session.send("PATCH", user.headers["Location"], json={"secret": PASSWORD}, headers=bearer)
    session.send("GET", "/users", headers=bearer)
    session.send("GET", "/users", params={"email": EMAIL}, headers={"X-API-Key": API_KEY})
    session.send("GET", "/users", headers={"X-API-Key": f"{API_KEY}x"})
    session.send("GET", "/users/me", headers={"Authorization": f"Bearer {JWT_SECRET}"})
    session.send("GET", "/users/me", headers={"Authorization": f"Basic {PASSWORD}"})
    session.grant(grant_type="refresh_token", refresh_token=first["refresh_token"])
    session.grant(grant_type="refresh_token", refresh_token=second["refresh_token"])
    third = session.grant(grant_type="password", username=EMAIL, password=PASSWORD)
    session.send("POST", "/auth/revoke", data={"token": third["refresh_token"]})
    session.send("DELETE", user.headers["Location"], headers=bearer)  # that log-in has ended
    last = session.grant(grant_type="password", username=EMAIL, password=PASSWORD)
    bearer = {"Authorization": f"Bearer {last['access_token']}"}
    session.send("DELETE", user.headers["Location"], headers=bearer)
    session.send("GET", "/users/me", headers=bearer)


JSON = {"Content-Type": "application/json"}
STATUSES = [
    201, 201, 409, 400, 400, 400, 400, 200, 200, 200, 200, 400, 403, 200, 401, 401, 401, 400, 400,
    200, 200, 401, 200, 204, 401,
]  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_output_of_a_session_holds_no_secret_and_nobody(database_url, log_format):
    with serve(
        DATABASE_URL=database_url,
        API_KEY=API_KEY,
        JWT_SECRET=JWT_SECRET,
        LOG_LEVEL="DEBUG",
        LOG_FORMAT=log_format,
        WEB_CONCURRENCY="1",
        REDIS_URL="redis://127.0.0.1:1",
        RATE_LIMIT_ENABLED="true",
        REFRESH_REUSE_SECONDS="0",
    ) as web:
        session = Session(web)
        drive(session)
        session.close()
        web.stop()
        output = web.output()

    assert session.statuses == STATUSES
    assert len([secret for secret in session.secrets if secret.startswith("eyJ")]) == 4
    assert [secret for secret in session.secrets if secret in output] == []
    assert "User created successfully" in output
    assert "Refresh token family revoked" in output


@pytest.mark.integration
def test_input_forges_no_line_of_the_log(sqlite_url):
    mark = uuid.uuid4().hex
    forged = f'{mark}"}}\r\n{{"level": "INFO", "message": "{mark}'
    new = {"email": "ada@example.com", "name": "Ada", "source": "web"}

    with serve(DATABASE_URL=sqlite_url, LOG_LEVEL="DEBUG", WEB_CONCURRENCY="1") as web:
        session = Session(web)
        session.send("POST", "/users", json=new | {"source": forged})
        session.send("POST", "/users", json=new | {"source": f"{mark}\\u2028\\r"})
        session.send("GET", "/users/me", headers={"X-Request-ID": f"{mark} x"})
        session.send("GET", "/" + forged.replace("\r\n", "%0d%0a"))
        session.close()
        web.stop()
        lines = web.output().splitlines()

    assert session.statuses == [400, 201, 401, 404]
    assert all(json.loads(line)["message"] for line in lines)
    assert mark not in [json.loads(line)["message"] for line in lines]
