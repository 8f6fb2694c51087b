"""The examples for services that verify: each is the one in the documentation."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from tests.conftest import make_app
from tests.support import kustomize
from tests.support.ports import HOST, free_port
from tests.support.processes import ROOT, run
from tests.support.signing import AUDIENCE, signing

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MESH = ROOT / "k8s" / "examples" / "istio.yaml"
CONFIGURATION = "/.well-known/openid-configuration"
# Calls the verifier once for each line of standard input, and prints the answers' statuses.
CALLER = """
import sys
client = app.test_client()
for line in sys.stdin.read().split("\\n"):
    headers = {"Authorization": f"Bearer {line}"} if line else {}
    answer = client.get("/orders", headers=headers)
    print(answer.status_code, answer.json["user"] if answer.status_code == 200 else "")
"""


@pytest.fixture
def issuer(serve, tmp_path):
    """A service that signs by a key, under the address that it is served at."""
    (tmp_path / "key.pem").write_text(signing()["token_signing_key"])
    port = str(free_port())
    return serve(
        PORT=port,
        TOKEN_ISSUER=f"http://{HOST}:{port}",
        TOKEN_AUDIENCE=AUDIENCE,
        TOKEN_SIGNING_KEY_FILE=str(tmp_path / "key.pem"),
    )


def log_in(service):
    email, password = "ada@example.com", "correct horse battery"
    user = {"email": email, "name": "Ada", "password": password}
    made = service.client.post("/users", json=user).json()
    form = {"grant_type": "password", "username": email, "password": password}
    return made["id"], service.client.post("/auth/token", data=form).json()["access_token"]


@pytest.mark.integration
def test_the_verifier_in_the_documentation_takes_tokens_of_the_service_and_no_others(issuer):
    (code,) = BLOCK.findall((ROOT / "docs" / "accounts.md").read_text(encoding="utf-8"))
    address = str(issuer.client.base_url).rstrip("/")
    served = code.replace("https://id.example.com", address)
    user_id, token = log_in(issuer)
    header, claims, signature = token.split(".")
    tokens = [token, token, f"{header}.{claims}.{signature[::-1]}", "a.b.c", ""]

    result = run(sys.executable, "-c", served + CALLER, stdin="\n".join(tokens))

    assert served != code
    assert result.stderr == ""
    assert result.stdout.splitlines() == [f"200 {user_id}"] * 2 + ["401 "] * 3
    fetched = issuer.total("http_requests_total", endpoint="discovery.get_key_set")
    assert fetched == 1  # the library keeps them


def test_the_mesh_verifies_by_the_addresses_that_the_service_publishes(config, services):
    authentication, _ = kustomize.load(MESH.read_text(encoding="utf-8"))
    (rule,) = authentication["spec"]["jwtRules"]
    settings = signing(token_issuer=rule["issuer"], token_audience=rule["audiences"][0])
    published = make_app(replace(config, **settings), services).test_client().get(CONFIGURATION)

    assert published.json["issuer"] == rule["issuer"]
    assert published.json["jwks_uri"] == rule["jwksUri"]
    assert len(rule["audiences"]) == 1


def test_the_mesh_lets_no_request_through_without_a_token_of_the_service():
    authentication, policy = kustomize.load(MESH.read_text(encoding="utf-8"))
    (verified,) = authentication["spec"]["jwtRules"]
    (rule,) = policy["spec"]["rules"]
    (source,) = rule["from"]

    assert policy["spec"]["action"] == "ALLOW"
    assert policy["spec"]["selector"] == authentication["spec"]["selector"]
    assert policy["metadata"]["namespace"] == authentication["metadata"]["namespace"]
    assert source["source"] == {"requestPrincipals": [f"{verified['issuer']}/*"]}
