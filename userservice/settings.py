"""Settings of resources, which AppConfig inherits; resources get their values as arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from chassis.settings.kinds import (
    boolean,
    choice,
    header,
    integer,
    mailbox,
    origin_of,
    origins,
    rate,
    seconds,
    url,
)
from chassis.settings.token_keys import TokenKeySettings
from chassis.settings.variables import setting


@dataclass(frozen=True, kw_only=True)
class AccountSettings:
    """Registering, and logging in."""

    registration: str = setting(
        "open",
        choice("open", "authenticated"),
        "Callers that may create users: everyone, or administrators.",
    )
    rate_limit_registration: str = setting(
        "30/minute", rate(), "Registrations for each client, and for each address."
    )
    rate_limit_login: str = setting(
        "10/minute", rate(), "Log-ins for each client, and for each address."
    )
    access_token_seconds: int = setting(900, integer(1, 86400), "How long an access token holds.")
    refresh_token_seconds: int = setting(
        2_592_000, integer(60, 31_536_000), "How long a log-in can be renewed without a password."
    )
    refresh_reuse_seconds: float = setting(
        10.0, seconds(0, 60), "How long a refresh whose answer was lost can be repeated; 0: never."
    )
    rate_limit_password: str = setting(
        "10/minute", rate(), "Requests of each user that bring the current password along."
    )
    rate_limit_recovery: str = setting(
        "5/hour", rate(), "E-mails with a link for each address; more are not sent."
    )
    rate_limit_recovery_client: str = setting(
        "30/hour", rate(), "Requests of each client about forgotten passwords."
    )
    rate_limit_export: str = setting(
        "10/minute", rate(), "Requests of each client for all that is stored of a user."
    )
    email_verification: str = setting(
        "off",
        choice("off", "optional"),
        "Whether new addresses are confirmed by a link; off: they count at once.",
    )


@dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """Pages of people: where they are, where links in e-mails lead, and how long they hold."""

    cors_origins: frozenset[str] = setting(
        frozenset(), origins(), "Web pages whose scripts may call the API; empty: none."
    )

    public_url: str = setting(
        "", url("http", "https"), "Address under which people reach the service; empty: unknown."
    )
    account_url: str = setting(
        "", url("http", "https"), "Page that links in e-mails lead to; empty: PUBLIC_URL/account."
    )
    reset_token_seconds: int = setting(
        3600, integer(60, 604_800), "How long a link to reset a password holds."
    )
    invite_token_seconds: int = setting(
        604_800, integer(60, 31_536_000), "How long an invitation holds."
    )
    email_token_seconds: int = setting(
        259_200, integer(60, 2_592_000), "How long a link to confirm an address holds."
    )

    def account_page(self, *, default: str) -> str:
        """Return the address of the page that links lead to; empty when it is unknown.

        Args:
            default: Taken when neither the page nor the service has a public address.
        """
        service = (self.public_url or default).rstrip("/")
        return self.account_url or (f"{service}/account" if service else "")

    def link_contradictions(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken."""
        pages = (self.public_url, self.account_url)
        return {
            "PUBLIC_URL and ACCOUNT_URL must have no query, fragment or credentials": any(
                re.search("[?#@]", each) for each in pages
            ),
            "ACCOUNT_URL must have the origin of PUBLIC_URL, or one in CORS_ORIGINS": (
                bool(self.account_url)
                and origin_of(self.account_url)
                not in {origin_of(self.public_url), *self.cors_origins}
            ),
        }

    def link_refusals(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken, for production."""
        return {
            f"{name} must begin with https:// in production": value.startswith("http:")
            for name, value in (("PUBLIC_URL", self.public_url), ("ACCOUNT_URL", self.account_url))
        }


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """API keys."""

    key_cache_seconds: float = setting(
        5.0,
        seconds(0, 60),
        "How long a process remembers an API key, also one that was revoked; 0: not at all.",
    )


@dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """Imports and exports."""

    import_max_bytes: int = setting(
        104_857_600, integer(1, 1_099_511_627_776), "Size of an import, in bytes."
    )
    transfers: int = setting(
        2, integer(1, 256), "Imports and exports that each web process transfers at a time."
    )


@dataclass(frozen=True, kw_only=True)
class TrailSettings:
    """The audit trail."""

    # Not 0, which one would take for no end, another for no trail.
    audit_days: int = setting(
        365, integer(1, 36_500), "Age in days from which a cleanup removes rows of the audit trail."
    )


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """E-mails: where they are handed over, and who sends them."""

    email_service_url: str = setting(
        "",
        url("http", "https", "smtp", "smtps", "smtp+starttls"),
        "Where e-mails are posted to, or the mail server; empty: none are sent.",
        secret=True,
    )
    email_service_token: str = setting(
        "",
        header(),
        "Sent to an EMAIL_SERVICE_URL of HTTP as Authorization: Bearer; empty: none.",
        secret=True,
    )
    email_from: str = setting(
        "", mailbox(), "Mailbox that e-mails come from; required with a mail server."
    )
    email_timeout_seconds: float = setting(
        5.0, seconds(0.05, 300), "How long handing over an e-mail may take."
    )
    email_on_terminal: bool = setting(
        False,
        boolean(),
        "Whether e-mails are printed on the terminal, without EMAIL_SERVICE_URL; development only.",
    )

    @property
    def is_smtp(self) -> bool:
        """Whether e-mails go to a mail server."""
        return self.email_service_url.startswith("smtp")

    @property
    def unmailed_links(self) -> str:
        """Why e-mails with links must not leave a production; empty if they may."""
        is_plain = self.email_service_url.startswith("http:")
        return "Links leave by an EMAIL_SERVICE_URL of https:// or SMTP alone" if is_plain else ""

    def mail_contradictions(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken."""
        has_password = urlsplit(self.email_service_url).password is not None
        is_post = self.email_service_url.startswith("http")
        has_token = bool(self.email_service_token)
        return {
            "EMAIL_FROM is required with an EMAIL_SERVICE_URL of SMTP": (
                self.is_smtp and not self.email_from
            ),
            "EMAIL_SERVICE_URL with a password must begin with smtps:// or smtp+starttls://": (
                has_password and self.email_service_url.startswith("smtp:")
            ),
            "EMAIL_SERVICE_TOKEN needs an EMAIL_SERVICE_URL of HTTP, without credentials": (
                has_token and not (is_post and "@" not in urlsplit(self.email_service_url).netloc)
            ),
        }

    def mail_refusals(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken, for production."""
        scheme = self.email_service_url.partition(":")[0]
        return {
            "EMAIL_SERVICE_URL must begin with smtps:// or smtp+starttls:// in production": (
                scheme == "smtp"
            ),
            "EMAIL_SERVICE_URL must begin with https:// in production, with EMAIL_SERVICE_TOKEN": (
                scheme == "http" and bool(self.email_service_token)
            ),
        }


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(
    AccountSettings,
    TokenKeySettings,
    KeySettings,
    LinkSettings,
    TransferSettings,
    TrailSettings,
    MailSettings,
):
    """All settings that belong to resources; a new class of them is added to the bases."""

    def contradictions(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken, for settings that contradict each other."""
        return {
            "REFRESH_TOKEN_SECONDS must be longer than ACCESS_TOKEN_SECONDS": (
                self.refresh_token_seconds <= self.access_token_seconds
            ),
            **self.signing_contradictions(),
            **self.link_contradictions(),
            **self.mail_contradictions(),
        }

    def refusals(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken, for settings that production must not have."""
        return self.signing_refusals() | self.link_refusals() | self.mail_refusals()
