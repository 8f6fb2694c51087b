"""An e-mail over SMTP ends by its deadline and reads little, whatever the server does.

The time limits are short, and no test measures how long a call took: one that did not end would
keep its test from ending.
"""

from __future__ import annotations

import traceback
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from chassis.clients.smtp_client import SmtpClient
from chassis.clients.smtp_connection import Mail
from chassis.clients.smtp_server import Security, SmtpRefusal, SmtpServer
from chassis.clients.smtp_session import UnreadableReply
from chassis.errors import Unavailable
from tests.support.mail_server import MailServer, ScriptedMailServer, converse
from tests.support.names import NameServer
from tests.support.waiting import DEADLINE_SECONDS, eventually

SHORT = timedelta(seconds=0.4)
LONG = timedelta(seconds=DEADLINE_SECONDS)
MAIL = Mail("no-reply@example.com", "ada@example.com", b"Subject: Hello\r\n\r\nHello\r\n")
BANNER, FINE = b"220 mail.test\r\n", b"250 fine\r\n"


@contextmanager
def calling(behave, *, timeout=LONG, url=None, tls=None, **options):
    """A server that behaves like this, and a client for it."""
    with closing(ScriptedMailServer(behave, tls=tls)) as server:
        options = {"timeout": timeout, "ping_timeout": timeout, **options}
        found = SmtpServer.at(url(server) if url else server.server_url)
        with closing(SmtpClient(found, **options)) as client:
            yield server, client


def drips(*replies, drop):
    """Say these, and then the same little again and again, for ever."""

    def behave(peer, service):
        if replies:
            converse(peer, *replies)
        while True:
            peer.sendall(drop)
            service.rest()

    return behave


def hangs(*replies):
    def behave(peer, service):
        if replies:
            converse(peer, *replies)
        return service.await_end(peer)

    return behave


def leaves(*replies):
    def behave(peer, _service):
        converse(peer, *replies)
        peer.recv(65_536)
        return False

    return behave


def floods(*replies, line):
    def behave(peer, _service):
        if replies:
            converse(peer, *replies)
        for _ in range(400):
            peer.sendall(line * (1_000_000 // len(line)))
        return False

    return behave


def starttls(server):
    """Return the URL of a server that TLS is begun with, and a password sent to."""
    return server.server_url.replace("smtp://", "smtp+starttls://name:password@")


ENDLESS = {
    "silence": hangs(),
    "silence after the banner": hangs(BANNER),
    "silence after the sender": hangs(BANNER, FINE, FINE),
    "silence after the message": hangs(BANNER, FINE, FINE, FINE, b"354 go on\r\n"),
    "a banner that drips": drips(drop=b"220-a\r\n"),
    "a line that drips": drips(BANNER, drop=b" "),
    "extensions that drip": drips(BANNER, drop=b"250-A\r\n"),
    "a message that is not read": hangs(BANNER, FINE, FINE, FINE),
}


@pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)
def test_a_server_that_does_not_come_to_its_point_is_hung_up_on(behave):
    with calling(behave, timeout=SHORT) as (server, client):
        with pytest.raises((TimeoutError, UnreadableReply)):
            client.deliver(MAIL)

        assert server.hung_up.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize("line", [b"2", b"220-more\r\n"], ids=["a line", "lines"])
@pytest.mark.parametrize("replies", [(), (BANNER,), (BANNER, FINE, FINE)])
def test_a_server_that_floods_is_hung_up_on(replies, line):
    with calling(floods(*replies, line=line)) as (server, client):
        with pytest.raises(UnreadableReply):
            client.deliver(MAIL)

        assert server.hung_up.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 400 Bad Request\r\n", b"\x16\x03\x01\r\n", b"\r\n", b"999 x\r\n", b"220mail\r\n"],
)
def test_a_server_that_does_not_speak_smtp_is_left(said):
    with calling(hangs(said)) as (_, client), pytest.raises(UnreadableReply):
        client.deliver(MAIL)


@pytest.mark.parametrize("question", [None, b"!", b"a"], ids=["an echo", "no word", "half a word"])
def test_a_server_that_asks_for_more_than_a_name_and_a_password_is_left(question):
    asked = []

    def behave(peer, _service):
        converse(peer, BANNER, b"250-mail.test\r\n250 AUTH PLAIN\r\n")
        while word := peer.recv(65_536).split()[-1:]:
            asked.extend(word)
            peer.sendall(b"334 " + (question or word[0]) + b"\r\n")
        return False

    def with_a_name(server):
        return server.server_url.replace("//", "//name:password@")

    with calling(behave, url=with_a_name) as (_, client), pytest.raises(UnreadableReply) as failure:
        client.deliver(MAIL)

    shown = "".join(traceback.format_exception(failure.value))
    assert asked
    assert asked[0].decode() not in shown


@pytest.mark.parametrize("taken", range(5))
def test_a_server_that_closes_in_the_middle_is_a_failure(taken):
    replies = (BANNER, FINE, FINE, FINE, b"354 go on\r\n")[: taken + 1]

    with calling(leaves(*replies)) as (server, client):
        with pytest.raises(ConnectionError):
            client.deliver(MAIL)

        assert server.connections == 1


def test_a_long_message_that_nobody_reads_ends_by_the_deadline():
    mail = MAIL._replace(content=b"x" * 900 + b"\r\n" * 20_000_000)

    def behave(peer, service):
        converse(peer, BANNER, FINE, FINE, FINE, b"354 go on\r\n")
        while not service.hung_up.is_set():
            service.rest()
        return False

    with calling(behave, timeout=SHORT) as (_, client), pytest.raises(TimeoutError):
        client.deliver(mail)


def test_a_server_that_hangs_in_the_handshake_is_hung_up_on():
    with calling(
        hangs(), timeout=SHORT, url=lambda each: each.server_url.replace("smtp", "smtps", 1)
    ) as (server, client):
        with pytest.raises(TimeoutError):
            client.deliver(MAIL)

        assert server.hung_up.wait(DEADLINE_SECONDS)


def test_words_that_came_in_the_clear_before_tls_are_not_believed():
    def behave(peer, service):
        injected = b"250-mail\r\n250 AUTH PLAIN\r\n"
        converse(peer, BANNER, b"250-mail\r\n250 STARTTLS\r\n", b"220 go\r\n" + injected)
        return service.await_end(peer)

    with calling(behave, url=starttls) as (server, client):
        with pytest.raises(UnreadableReply):
            client.deliver(MAIL)

        assert server.hung_up.wait(DEADLINE_SECONDS)


def test_a_refusal_of_tls_is_no_reason_to_go_on_without():
    heard = []

    def behave(peer, service):
        converse(peer, BANNER, b"250-mail\r\n250 STARTTLS\r\n", b"454 4.7.0 not now\r\n")
        heard.append(peer.recv(65_536))
        return service.await_end(peer)

    with calling(behave, url=starttls) as (_, client):
        with pytest.raises(SmtpRefusal, match=r"454 4\.7\.0"):
            client.deliver(MAIL)

        eventually(lambda: heard)
    assert heard == [b""]


def test_a_kept_connection_that_ends_as_it_is_used_again_costs_no_email():
    behaviours = [
        lambda peer: converse(peer, BANNER, FINE, FINE, FINE, b"354 go\r\n", FINE, b"421 bye\r\n"),
        lambda peer: converse(peer, BANNER, FINE, FINE, FINE, b"354 go\r\n", FINE),
    ]

    def behave(peer, service):
        behaviours[service.connections - 1](peer)
        return service.await_end(peer)

    with calling(behave) as (server, client):
        client.deliver(MAIL)
        client.deliver(MAIL)

        assert server.connections == 2


def test_a_connection_whose_server_said_more_than_was_asked_for_is_not_kept():
    def behave(peer, service):
        converse(peer, BANNER, FINE, FINE, FINE, b"354 go\r\n", FINE + b"250 more\r\n")
        return service.await_end(peer)

    with calling(behave) as (server, client):
        client.deliver(MAIL)
        client.deliver(MAIL)

        assert server.connections == 2


def test_the_end_of_a_connection_is_said_and_not_waited_for():
    heard = []

    def behave(peer, service):
        converse(peer, BANNER, FINE, FINE, FINE, b"354 go\r\n", FINE)
        heard.append(peer.recv(65_536))
        return service.await_end(peer)

    with calling(behave) as (_, client):
        client.deliver(MAIL)
        client.close()

        eventually(lambda: heard)
    assert heard == [b"QUIT\r\n"]


@pytest.fixture
def names():
    """A name server, which is let go in the end."""
    server = NameServer()
    yield server
    server.answers.set()


def test_a_name_server_that_hangs_is_waited_for_no_longer_than_the_deadline(names):
    names.answers.clear()
    with calling(hangs(), timeout=SHORT, look_up=names) as (server, client):
        with pytest.raises(TimeoutError):
            client.deliver(MAIL)
        with pytest.raises(Unavailable):
            client.ping()

        assert server.connections == 0


def test_a_kept_connection_asks_for_no_name(names):
    with (
        closing(MailServer()) as server,
        closing(
            SmtpClient(SmtpServer.at(server.url), timeout=LONG, ping_timeout=LONG, look_up=names)
        ) as client,
    ):
        client.deliver(MAIL)
        names.answers.clear()
        client.deliver(MAIL)

        assert len(server.received) == 2


@pytest.mark.parametrize("said", [b"421 busy\r\n", b"554 no\r\n", b"hello\r\n", b""])
def test_a_banner_that_is_none_is_no_sign_of_life(said):
    def behave(peer, _service):
        peer.sendall(said)
        return False

    with calling(behave) as (server, client):
        for _ in range(3):
            with pytest.raises(Unavailable):
                client.ping()

        assert server.connections == 1


def test_a_ping_ends_by_its_own_deadline():
    with calling(hangs(), ping_timeout=SHORT) as (server, client):
        with pytest.raises(Unavailable) as refusal:
            client.ping()

        assert isinstance(refusal.value.__cause__, TimeoutError)
        assert server.hung_up.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("url", "port", "security"),
    [
        ("smtp://mail.example", 25, Security.NONE),
        ("smtps://mail.example", 465, Security.IMPLICIT),
        ("smtp+starttls://mail.example", 587, Security.STARTTLS),
        ("smtps://mail.example:2465", 2465, Security.IMPLICIT),
    ],
)
def test_a_scheme_says_when_tls_begins_and_which_port_is_usual(url, port, security):
    server = SmtpServer.at(url)

    assert (server.host, server.port, server.security) == ("mail.example", port, security)


def test_a_password_is_read_as_it_was_encoded_and_never_shown():
    server = SmtpServer.at("smtps://me%40example.com:p%40ss%2Fword%25@bücher.example")

    assert (server.name, server.password) == ("me@example.com", "p@ss/word%")
    assert server.ascii_host() == "xn--bcher-kva.example"
    assert "p@ss" not in repr(server)
