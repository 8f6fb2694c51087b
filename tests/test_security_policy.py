"""The promises of SECURITY.md that no other test holds."""

from __future__ import annotations

import ast
import re
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from app import create_app
from chassis.clients.http_client import HttpClient
from chassis.http.openapi import build_document
from config import AppConfig
from tests.support.routes import UNDESCRIBED

ROOT = Path(__file__).resolve().parent.parent
POLICY = ROOT / "SECURITY.md"
RISKS = [f"API{number}" for number in range(1, 11)]

# Modules that can open connections to other services; only the clients may.
CALLERS = {
    *("httpx2", "requests", "urllib3", "http.client", "urllib.request", "aiohttp", "smtplib"),
    *("chassis.clients.http_connection", "chassis.clients.smtp_client", "chassis.network.sockets"),
}
CLIENTS = {
    *("http_client.py", "http_connection.py"),
    *("smtp_mailer.py", "smtp_connection.py", "smtp_session.py"),
}
# The one file that may know urllib.request, which reads the variables of the environment for it.
READS_PROXIES = "proxies.py"


def rows():
    """Return risk -> the tests that its row names."""
    lines = [line for line in POLICY.read_text().splitlines() if line.startswith("| API")]
    return {line.split()[1]: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line) for line in lines}


def functions(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def imported(path):
    """Return the modules that a file imports, inside functions as well."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_each_of_the_ten_risks_is_held_by_a_test():
    assert list(rows()) == RISKS
    assert all(rows().values())


@pytest.mark.parametrize("risk", RISKS)
def test_every_test_that_the_policy_names_exists(risk):
    missing = [f"{path}::{name}" for path, name in rows()[risk] if name not in functions(path)]

    assert missing == []


def test_nothing_that_handles_requests_can_call_out():
    packages = (ROOT / "chassis", ROOT / "userservice")
    files = {
        path for package in packages for path in package.rglob("*.py") if imported(path) & CALLERS
    }

    assert {path.name for path in files} == {*CLIENTS, READS_PROXIES}


def test_the_one_file_that_knows_urllib_takes_from_it_how_to_read_proxies():
    tree = ast.parse((ROOT / "chassis" / "clients" / READS_PROXIES).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]

    (taken,) = [node.names for node in imports if node.module == "urllib.request"]

    assert {each.name for each in taken} == {"getproxies", "proxy_bypass"}


def test_every_route_of_the_api_is_described():
    app = create_app(AppConfig(redis_url=""))
    described = build_document(app)["paths"]

    rules = {rule.rule for rule in app.url_map.iter_rules()} - set(UNDESCRIBED)

    assert {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule) for rule in rules} == set(described)


def test_calls_to_other_services_follow_no_redirect():
    asked = []

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    client = HttpClient(timeout=timedelta(seconds=10))
    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client.ping(f"http://127.0.0.1:{server.server_port}/here")
        server.shutdown()
        thread.join()
    client.close()

    assert asked == ["/here"]
