"""E-mails reach a real mail server: in the clear, over TLS, with a log-in, or not at all."""

from __future__ import annotations

import ssl
import traceback
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial

import pytest

from chassis.clients.mail_message import Sender
from chassis.clients.mail_templates import MailTemplates
from chassis.clients.resilience import BreakerOpen, BreakerState, CircuitBreaker
from chassis.clients.smtp_client import SmtpClient
from chassis.clients.smtp_mailer import SmtpMailer
from chassis.clients.smtp_server import SmtpServer
from chassis.errors import Unavailable, Undeliverable
from tests.support.certificates import make_certificate
from tests.support.mail_server import MailServer
from tests.support.ports import HOST, free_port
from tests.support.waiting import DEADLINE_SECONDS, eventually

LONG = timedelta(seconds=DEADLINE_SECONDS)
KEY = "01a2069c-cb97-7f4f-9b27-ce44d6542226"
SENDER = Sender("Example & Söhne", "no-reply@example.com")
ADA = "ada@example.com"
UNKNOWN = "550 5.1.1 <ada@example.com> is unknown here"


@pytest.fixture
def templates(tmp_path):
    """One template that shows a name wherever a name may stand."""
    folder = tmp_path / "mails" / "greeting"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Hello {{ name }}\n")
    (folder / "text.txt").write_text("Dear {{ name }},\n.\nhello\n")
    (folder / "html.html").write_text('<p title="{{ name }}">Dear {{ name }}</p>\n')
    return MailTemplates(folder.parent, {"service": "Example"})


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path / "server.pem")


@pytest.fixture
def breaker():
    return CircuitBreaker("email")


@pytest.fixture
def opened():
    with ExitStack() as stack:
        yield lambda made: stack.enter_context(closing(made))


@pytest.fixture
def start(opened, certificate):
    """Start a mail server; TLS takes the certificate of these tests."""

    def start(scheme="smtp", **options):
        tls = None if scheme == "smtp" else certificate
        return opened(MailServer(**{"scheme": scheme, "tls": tls, **options}))

    return start


@pytest.fixture
def mailer_to(opened, templates, certificate, breaker):
    """Make a mailer that trusts the certificate of these tests."""

    def mailer_to(url, *, trusted=certificate, **options):
        client = SmtpClient(
            SmtpServer.at(url),
            **{
                "timeout": LONG,
                "ping_timeout": LONG,
                "trust": partial(ssl.create_default_context, cafile=trusted),
                **options,
            },
        )
        return opened(SmtpMailer(client, breaker, templates=templates, sender=SENDER))

    return mailer_to


def send(mailer, to=ADA, name="Ada", key=KEY):
    return mailer.send("greeting", to=to, variables={"name": name}, key=key)


@pytest.mark.parametrize("needs_log_in", [False, True])
@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_an_email_is_handed_over_through_tls(start, mailer_to, scheme, needs_log_in):
    server = start(scheme, needs_log_in=needs_log_in)

    assert send(mailer_to(server.url)) is True

    (mail,) = server.received
    assert (mail.sender, mail.recipient) == ("no-reply@example.com", ADA)
    assert server.logged_in == [True] * needs_log_in


def test_an_email_says_all_that_a_mailbox_wants_to_know(start, mailer_to):
    server = start()

    send(mailer_to(server.url), name="Ada <b>Lovelace</b>")

    message = server.received[0].message
    assert message["From"] == "Example & Söhne <no-reply@example.com>"
    assert message["To"] == ADA
    assert message["Subject"] == "Hello Ada <b>Lovelace</b>"
    assert message["Message-ID"] == f"<{KEY}@example.com>"
    assert message["Date"].datetime.utcoffset() == timedelta(0)
    assert message["Auto-Submitted"] == "auto-generated"
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().splitlines() == ["Dear Ada <b>Lovelace</b>,", ".", "hello"]
    escaped = "Ada &lt;b&gt;Lovelace&lt;/b&gt;"
    assert html.get_content().strip() == f'<p title="{escaped}">Dear {escaped}</p>'


def test_the_host_introduces_itself_by_its_address_and_asks_no_name_server(start, mailer_to):
    server = start()

    send(mailer_to(server.url))

    assert server.commands[0] == f"EHLO [{HOST}]"


def test_a_message_has_one_id_on_every_try(start, mailer_to):
    server = start()
    mailer = mailer_to(server.url)

    for _ in range(2):
        send(mailer)

    assert len({mail.message["Message-ID"] for mail in server.received}) == 1


HOSTILE = {
    "line ends": "Ada\r\nBcc: eve@example.com\r\n\r\nBuy",
    "other line ends": "Ada\u2028Bcc: eve@example.com\x85X: y\x0bZ: z\x1cA: b",
    "the end of the message": "Ada\r\n.\r\nMAIL FROM:<eve@a.example>\r\nRCPT TO:<bob@a.example>",
    "half line ends": "Ada\r.\rMAIL\n.\nFROM",
    "null": "Ada\x00",
    "encoded words": "=?utf-8?q?=0D=0ABcc:_eve=40example.com?=",
    "nested encoded words": "=?utf-8?b?PT91dGYtOD9xPz0wRD0wQUI6X2U/PQ==?= =?=?utf-8?q?=0D=0AB:c?=",
    "long": "Ä" * 200,
    "emoji": "👩‍💻" * 60,
    "addresses": "eve@example.com>, <bob@example.com",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_name_adds_no_header_no_recipient_and_no_email(start, mailer_to, name):
    server = start()

    send(mailer_to(server.url), name=name)

    (mail,) = server.received
    assert mail.recipient == ADA
    assert mail.content.count(b"\n") == mail.content.count(b"\r\n") == mail.content.count(b"\r")
    assert set(mail.message.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("MIME-Version", "Content-Type"),
    }
    assert len(mail.message.get_all("Subject")) == 1


def test_an_address_that_a_header_would_decode_is_skipped(start, mailer_to):
    server = start()

    for local_part in ("=?utf-8?q?=0D=0ABcc=3A_eve=40example.com?=", "=?utf-8?q?=22=3E?="):
        with pytest.raises(Undeliverable, match="looks like an encoded word"):
            send(mailer_to(server.url), to=f"{local_part}@example.com")

    assert server.received == []


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.com\r\nRCPT TO:<eve@example.com>",
        "ada@example.com>\r\nDATA",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com> SIZE=1",
        "ada\x00@example.com",
        "",
        "ada",
    ],
)
def test_no_email_goes_to_what_is_no_address(start, mailer_to, breaker, to):
    server = start()

    with pytest.raises(Undeliverable) as skipped:
        send(mailer_to(server.url), to=to)

    assert skipped.value.detail == "The recipient's address is none"
    assert skipped.value.__cause__ is None
    assert server.received == []
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.example", "ada@xn--strae-oqa.example"),
    ],
)
def test_a_domain_is_written_in_ascii(start, mailer_to, typed, written):
    server = start(takes_utf8=False)

    send(mailer_to(server.url), to=typed)

    (mail,) = server.received
    assert mail.recipient == mail.message["To"] == written
    assert mail.options == []


def test_a_local_part_beyond_ascii_goes_to_a_server_that_takes_it(start, mailer_to):
    server = start()
    mailer = mailer_to(server.url)

    send(mailer, to="jörg@example.com")
    send(mailer)

    first, second = server.received
    assert first.recipient == first.message["To"] == "jörg@example.com"
    assert "SMTPUTF8" in first.options
    assert second.options == []


def test_a_local_part_beyond_ascii_is_skipped_where_the_server_does_not_take_it(
    start, mailer_to, breaker
):
    server = start(takes_utf8=False)
    mailer = mailer_to(server.url)

    with pytest.raises(Undeliverable, match="takes no address beyond ASCII"):
        send(mailer, to="jörg@example.com")
    send(mailer)

    assert [mail.recipient for mail in server.received] == [ADA]
    assert server.connections == 1
    assert breaker.state is BreakerState.CLOSED


def test_one_connection_serves_many_emails_also_after_a_refusal(start, mailer_to):
    server = start(answers={"nobody@example.com": UNKNOWN})
    mailer = mailer_to(server.url)

    send(mailer)
    with pytest.raises(Undeliverable):
        send(mailer, to="nobody@example.com")
    send(mailer, to="grace@example.com")

    assert [mail.recipient for mail in server.received] == [ADA, "grace@example.com"]
    assert server.connections == 1


def test_a_connection_that_the_server_has_ended_is_replaced(start, mailer_to):
    server = start()
    mailer = mailer_to(server.url)
    send(mailer)
    server.hang_up()

    send(mailer)

    assert server.received[0].connection == 1
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ({ADA: UNKNOWN}, "refused the recipient: 550 5.1.1"),
        ({ADA: "553 no such place"}, "refused the recipient: 553"),
        ({"DATA": "554 5.6.0 ada@example.com"}, "refused the message: 554 5.6.0"),
    ],
)
def test_an_email_that_is_refused_for_good_is_skipped_with_a_reason(
    start, mailer_to, breaker, refusal, reason
):
    server = start(answers=refusal)
    mailer = mailer_to(server.url)

    for _ in range(10):
        with pytest.raises(Undeliverable) as skipped:
            send(mailer)

    assert skipped.value.detail == f"The mail server {reason}"
    assert skipped.value.__cause__ is None
    assert breaker.state is BreakerState.CLOSED
    mailer.ping()


@pytest.mark.parametrize("stage", [ADA, "DATA"])
def test_an_email_that_is_refused_for_now_is_tried_again_and_no_other_waits(
    start, mailer_to, breaker, stage
):
    server = start(answers={stage: "450 4.2.0 greylisted"})
    mailer = mailer_to(server.url)
    for _ in range(10):
        with pytest.raises(Unavailable, match=r"refused the \w+: 450 4.2.0$"):
            send(mailer)
    server.answers.clear()

    assert send(mailer) is True
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("refusal", "is_final"),
    [
        ({"MAIL": "421 4.3.2 closing"}, False),
        ({ADA: "421 4.3.2 closing"}, False),
        ({"DATA": "421 4.3.2 closing"}, False),
        ({"MAIL": "451 4.7.1 later"}, False),
        ({"MAIL": "550 5.7.1 not your address"}, True),
        ({"MAIL": "530 5.7.0 log in first"}, True),
        ({ADA: "530 5.7.0 log in first"}, True),
        ({"EHLO": "554 5.7.1 go away"}, True),
    ],
)
def test_a_refusal_of_all_emails_opens_the_breaker_and_readiness_tells_of_it_where_it_is_final(
    start, mailer_to, breaker, refusal, is_final
):
    server = start(answers=refusal)
    mailer = mailer_to(server.url)

    for _ in range(5):
        with pytest.raises(Unavailable, match="The mail server refused"):
            send(mailer)

    with pytest.raises(BreakerOpen):
        send(mailer)
    assert breaker.state is BreakerState.OPEN
    if is_final:
        with pytest.raises(Unavailable, match="refuses all"):
            mailer.ping()
    else:
        mailer.ping()


def test_readiness_is_content_again_when_an_email_is_taken(start, mailer_to):
    server = start(answers={"MAIL": "550 no"})
    mailer = mailer_to(server.url)
    with pytest.raises(Unavailable):
        send(mailer)
    server.answers.clear()

    send(mailer)

    mailer.ping()


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_wrong_password_is_tried_once_and_concerns_all_emails(start, mailer_to, scheme):
    server = start(scheme, needs_log_in=True)
    mailer = mailer_to(server.url.replace("p%40ss", "other"))

    with pytest.raises(Unavailable, match="refused the log-in: 535"):
        send(mailer)

    assert server.logged_in == [False]
    assert server.received == []
    with pytest.raises(Unavailable, match="refuses all"):
        mailer.ping()


def test_a_log_in_that_fails_for_the_moment_is_no_refusal(start, mailer_to):
    server = start("smtps", needs_log_in=True, answers={"AUTH": "454 4.7.0 later"})
    mailer = mailer_to(server.url)

    with pytest.raises(Unavailable, match=r"refused the log-in: 454 4\.7\.0"):
        send(mailer)

    mailer.ping()


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
@pytest.mark.parametrize("case", ["nobody vouches for it", "it is somebody else's"])
def test_a_certificate_that_does_not_hold_gets_neither_password_nor_email(
    start, mailer_to, tmp_path, scheme, case
):
    server = start(scheme, needs_log_in=True)
    other = make_certificate(tmp_path / "other.pem")
    url = server.url.replace(HOST, "localhost") if "else" in case else server.url
    mailer = mailer_to(url, **({} if "else" in case else {"trusted": other}))

    with pytest.raises(Unavailable, match="No answer: SSLCertVerificationError"):
        send(mailer)

    assert server.logged_in == server.received == []
    assert "MAIL" not in server.commands


def test_nothing_is_sent_to_a_server_that_does_not_offer_starttls(start, mailer_to):
    server = start()
    mailer = mailer_to(server.url.replace("smtp://", "smtp+starttls://mailer:secret@"))

    with pytest.raises(Unavailable, match="does not offer STARTTLS"):
        send(mailer)

    assert server.commands == [f"EHLO [{HOST}]"]
    assert server.logged_in == server.received == []


def test_nothing_is_sent_to_a_server_that_cannot_take_the_log_in(start, mailer_to):
    server = start("smtps", needs_log_in=False)
    url = server.url.replace("://", "://mailer:secret@")
    server.answers["EHLO"] = "250 HELP"

    with pytest.raises(Unavailable, match="does not offer AUTH"):
        send(mailer_to(url))

    assert server.received == []


def test_a_server_that_is_not_there_is_away(mailer_to):
    mailer = mailer_to(f"smtp://{HOST}:{free_port()}")

    with pytest.raises(Unavailable, match="No answer: ConnectionRefusedError"):
        send(mailer)
    with pytest.raises(Unavailable):
        mailer.ping()


def test_a_banner_is_asked_for_once_in_half_a_minute(start, mailer_to):
    server = start()
    now = [1000.0]
    mailer = mailer_to(server.url, clock=lambda: now[0])

    for seconds in (0.0, 1.0, 28.9, 0.2):
        now[0] += seconds
        mailer.ping()

    eventually(lambda: server.connections == 2)
    assert server.received == []


def test_no_words_of_a_server_reach_an_error_or_what_caused_it(start, mailer_to):
    for stage in ("MAIL", ADA, "DATA"):
        for code in ("450", "550"):
            server = start(answers={stage: f"{code} {ADA} and hidden words"})

            with pytest.raises((Unavailable, Undeliverable)) as failure:
                send(mailer_to(server.url))

            shown = "".join(traceback.format_exception(failure.value))
            assert code in shown
            assert ADA not in shown
            assert "hidden" not in shown
