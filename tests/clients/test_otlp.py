"""Exports over OTLP by HTTP: certificates, proxies, and what is read from the environment."""

from __future__ import annotations

import ssl
from contextlib import closing

import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from chassis.clients.otlp_exporters import make_exporter
from tests.support.ports import HOST
from tests.support.raw_http import OK, RawService, says

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def environment(unproxied):
    unproxied.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")
    return unproxied


@pytest.fixture
def service():
    with closing(RawService(says(OK))) as raw:
        yield raw


@pytest.fixture
def secure(certificate):
    """A collector that speaks TLS, and only with clients that have this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with closing(RawService(says(OK), tls=context)) as raw:
        yield raw


def export():
    exporter = make_exporter("metrics", "tests")
    try:
        return exporter.export(MetricsData([]))
    finally:
        exporter.shutdown()


def test_an_endpoint_for_all_signals_gets_the_signals_path_and_headers(environment, service):
    environment.setenv(ENDPOINT, f"{service.url}/base/")
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b")
    environment.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")

    assert export() is MetricExportResult.SUCCESS

    (asked,) = service.asked
    assert asked.line == "POST /send/base/v1/metrics HTTP/1.1"
    assert asked.headers["api-key"] == "a b"
    assert asked.headers["content-encoding"] == "gzip"
    assert asked.headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize("scope", ["", "METRICS_"])
def test_a_collectors_certificate_and_our_own_come_from_files(
    environment, secure, certificate, scope
):
    environment.setenv(ENDPOINT, secure.url)
    environment.setenv(f"OTEL_EXPORTER_OTLP_{scope}CERTIFICATE", certificate)
    environment.setenv(f"OTEL_EXPORTER_OTLP_{scope}CLIENT_CERTIFICATE", certificate)
    environment.setenv(f"OTEL_EXPORTER_OTLP_{scope}CLIENT_KEY", certificate)

    assert export() is MetricExportResult.SUCCESS
    assert len(secure.asked) == 1


def test_a_certificate_that_is_not_trusted_is_sent_nothing(environment, secure, certificate):
    environment.setenv(ENDPOINT, secure.url)
    environment.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate)
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")

    assert export() is MetricExportResult.FAILURE
    assert secure.asked == []


@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"307 Temporary Redirect"])
def test_a_collector_that_has_moved_has_taken_nothing(environment, status):
    moved = b"HTTP/1.1 %b\r\nLocation: /v2\r\nContent-Length: 0\r\n\r\n" % status
    with closing(RawService(says(moved))) as raw:
        environment.setenv(ENDPOINT, raw.url)

        assert export() is MetricExportResult.FAILURE
        assert len(raw.asked) == 1


def test_a_collector_is_reached_through_a_proxy(environment, service):
    environment.setenv(ENDPOINT, "http://collector.example:4318")
    environment.setenv("HTTP_PROXY", f"http://user:s3cr3t@{HOST}:{service.port}")

    assert export() is MetricExportResult.SUCCESS

    (asked,) = service.asked
    assert asked.line == "POST http://collector.example:4318/v1/metrics HTTP/1.1"
    assert asked.headers["proxy-authorization"].startswith("Basic ")


def test_a_collector_that_no_proxy_names_is_called_directly(environment, service):
    environment.setenv(ENDPOINT, service.url)
    environment.setenv("HTTP_PROXY", f"http://{HOST}:1")
    environment.setenv("NO_PROXY", HOST)

    assert export() is MetricExportResult.SUCCESS
    assert len(service.asked) == 1


def test_no_password_is_taken_from_a_file_that_nobody_named(environment, service, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login user password hidden-2874\n")
    netrc.chmod(0o600)
    environment.setenv("NETRC", str(netrc))
    environment.setenv("REQUESTS_CA_BUNDLE", "/no/such")
    environment.setenv(ENDPOINT, service.url)

    assert export() is MetricExportResult.SUCCESS
    assert "authorization" not in service.asked[0].headers
