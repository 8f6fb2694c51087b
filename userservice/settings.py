"""Settings of resources, which AppConfig inherits; resources get their values as arguments."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.settings.kinds import choice, integer, rate, seconds
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
class ServiceSettings(AccountSettings, TransferSettings):
    """All settings that belong to resources; a new class of them is added to the bases."""

    def contradictions(self) -> dict[str, bool]:
        """Return sentence -> whether it is broken, for settings that contradict each other."""
        return {
            "REFRESH_TOKEN_SECONDS must be longer than ACCESS_TOKEN_SECONDS": (
                self.refresh_token_seconds <= self.access_token_seconds
            ),
        }
