"""TLS, proxies of the environment, and both together."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from chassis.clients.http_client import HttpClient
from chassis.errors import Unavailable
from tests.support.ports import HOST, free_port
from tests.support.processes import ADMIN, run
from tests.support.raw_http import OK, RawService, says
from tests.support.waiting import DEADLINE_SECONDS

SHORT = timedelta(seconds=0.4)
LONG = timedelta(seconds=DEADLINE_SECONDS)


@pytest.fixture(autouse=True)
def environment(unproxied):
    return unproxied


@pytest.fixture
def http():
    with closing(HttpClient(timeout=LONG)) as client:
        yield client


@pytest.fixture
def service():
    with closing(RawService(says(OK))) as raw:
        yield raw


@pytest.fixture
def secure(certificate):
    """A service that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with closing(RawService(says(OK), tls=context)) as raw:
        yield raw


def relay(peer, proxy):
    """Do as a proxy does: connect, and hand on what comes from either side."""
    host, _, port = proxy.asked[-1].line.split()[1].rpartition(":")
    with socket.create_connection((host, int(port))) as far:
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=pump, args=(far, peer))
        back.start()
        pump(peer, far)
        back.join()
    return False


def pump(source, target):
    with suppress(OSError):  # either side may hang up
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_certificate_that_the_system_trusts_is_trusted(environment, secure, certificate, http):
    environment.setenv("SSL_CERT_FILE", certificate)

    answered = [http.post(secure.url, {}, {}).status for _ in range(2)]

    assert answered == [200, 200]
    assert secure.connections == 1


def test_a_certificate_that_nobody_vouches_for_is_no_connection(secure, http):
    with pytest.raises(Unavailable, match="No answer: ConnectError"):
        http.post(secure.url, {}, {})

    assert secure.asked == []


def test_a_certificate_of_somebody_else_is_no_connection(environment, secure, certificate, http):
    environment.setenv("SSL_CERT_FILE", certificate)

    with pytest.raises(Unavailable, match="No answer: ConnectError"):
        http.post(secure.url.replace(HOST, "localhost"), {}, {})


def test_a_handshake_that_hangs_ends_by_the_deadline():
    with (
        closing(RawService(lambda peer, raw: raw.await_end(peer))) as hanging,
        closing(HttpClient(timeout=SHORT)) as client,
        pytest.raises(Unavailable, match="No answer: TimeoutError"),
    ):
        client.post(hanging.url.replace("http:", "https:"), {}, {})


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_asked_for_the_whole_url(environment, service, http, variable):
    environment.setenv(variable, f"http://user:s3cr3t@{HOST}:{service.port}")

    http.post("http://mail.example/send?x=1", {}, {})

    (asked,) = service.asked
    assert asked.line == "POST http://mail.example/send?x=1 HTTP/1.1"
    assert asked.headers["host"] == "mail.example"
    assert asked.headers["proxy-authorization"] == "Basic dXNlcjpzM2NyM3Q="


@pytest.mark.parametrize("hosts", [HOST, f"{HOST},other", "*", f"x, {HOST}", HOST + ":{port}"])
def test_a_host_that_needs_no_proxy_is_called_directly(environment, service, http, hosts):
    environment.setenv("HTTP_PROXY", f"http://{HOST}:{free_port()}")
    environment.setenv("NO_PROXY", hosts.format(port=service.port))

    http.post(service.url, {}, {})

    assert service.asked[0].line == "POST /send HTTP/1.1"


def test_a_proxy_of_https_makes_a_tunnel(environment, secure, certificate, http):
    environment.setenv("SSL_CERT_FILE", certificate)
    with closing(RawService(relay)) as proxy:
        environment.setenv("HTTPS_PROXY", f"http://user:s3cr3t@{HOST}:{proxy.port}")
        answered = [http.post(secure.url, {}, {}).status for _ in range(2)]

        assert [each.line for each in proxy.asked] == [f"CONNECT {HOST}:{secure.port} HTTP/1.1"]
        assert proxy.asked[0].headers["proxy-authorization"] == "Basic dXNlcjpzM2NyM3Q="

    assert answered == [200, 200]
    assert "proxy-authorization" not in secure.asked[0].headers


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_makes_no_tunnel_is_no_connection(environment, http, status):
    refusal = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    with closing(RawService(says(refusal))) as proxy:
        environment.setenv("HTTPS_PROXY", f"{HOST}:{proxy.port}")

        with pytest.raises(Unavailable, match="No answer: ConnectError"):
            http.post("https://mail.example/", {}, {})


@pytest.mark.parametrize(
    "url", ["socks5://user:s3cr3t@127.0.0.1:1080", "https://proxy.example", "http://", "a:b:c"]
)
def test_a_proxy_of_another_kind_is_left_out_and_logged(environment, caplog, service, http, url):
    caplog.set_level(logging.WARNING)
    environment.setenv("ALL_PROXY", url)

    answered = [http.post(service.url, {}, {}).status for _ in range(2)]
    http.ping(service.url)

    (record,) = caplog.records
    assert answered == [200, 200]
    assert (record.message, record.__dict__["variable"]) == ("Proxy ignored", "ALL_PROXY")
    assert "s3cr3t" not in str(record.__dict__)


@pytest.mark.parametrize("excepted", ["", HOST])
def test_a_check_reaches_a_service_whatever_proxy_is_named(tmp_path, service, excepted):
    variables = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/users.db",
        "EMAIL_SERVICE_URL": service.url,
        "ALL_PROXY": "socks5://127.0.0.1:1080",
        "NO_PROXY": excepted,
    }

    result = run(*ADMIN, "check", variables=variables)

    assert "ok       external_apis" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert ("Proxy ignored" in result.stderr) is not excepted
