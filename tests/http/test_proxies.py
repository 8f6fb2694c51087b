"""The client is who our own proxies say it is."""

from __future__ import annotations

import pytest

from chassis.http.proxies import TrustedProxies, read_address


def seen(hops=1, **headers):
    """Return what an application behind the middleware sees."""
    environ = {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http", "SCRIPT_NAME": ""}
    environ |= {f"HTTP_X_FORWARDED_{name}": value for name, value in headers.items()}
    TrustedProxies(lambda _environ, _start_response: [], hops)(environ, lambda *_: lambda _: None)
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["SCRIPT_NAME"]


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("203.0.113.1", "203.0.113.1"),
        ("203.0.113.1:50001", "203.0.113.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:DB8::1]:443"', "2001:db8::1"),
        ('"203.0.113.1:80"', "203.0.113.1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%<b>\n]:80", "fe80::1"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ('"', None),
        ("[", None),
        ("203.0.113.1:80:80", None),
        ("example.com", None),
    ],
)
def test_an_address_is_read_in_whatever_form_it_is_noted(entry, address):
    assert read_address(entry) == address


@pytest.mark.parametrize(
    ("hops", "noted", "client"),
    [
        (1, "198.51.100.9, 203.0.113.1:5", "203.0.113.1"),
        (2, "198.51.100.9, 203.0.113.1", "198.51.100.9"),
        (2, "203.0.113.1", "10.0.0.1"),
        (1, 'a, "x, 203.0.113.1', "203.0.113.1"),
        (1, "203.0.113.1, unknown", "10.0.0.1"),
        (1, "203.0.113.1,", "10.0.0.1"),
    ],
)
def test_only_what_our_proxies_noted_counts(hops, noted, client):
    assert seen(hops, FOR=noted)[0] == client


@pytest.mark.parametrize(
    ("noted", "scheme"),
    [("https", "https"), ("http, HTTPS", "https"), ("https, ftp", "http"), ("", "http")],
)
def test_the_scheme_is_what_the_client_used(noted, scheme):
    assert seen(PROTO=noted)[1] == scheme


@pytest.mark.parametrize(
    ("noted", "prefix"),
    [
        ("/svc", "/svc"),
        ("/svc/", "/svc"),
        ("/a/b.c", "/a/b.c"),
        ("/evil, /svc", "/svc"),
        ("//evil.com", ""),
        ("/a b", ""),
        ("svc", ""),
        ("/", ""),
        ("/a?b", ""),
    ],
)
def test_the_prefix_is_where_the_service_is_mounted(noted, prefix):
    assert seen(PREFIX=noted)[2] == prefix
