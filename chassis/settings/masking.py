"""The parts of a secret that may be shown."""

from __future__ import annotations

import re

MASK = "***"


def mask_all(_: str) -> str:
    """Show nothing of a secret."""
    return MASK


def mask_url(shown: str) -> str:
    """Show a URL without its password, a token before the host, and secret parameters."""
    shown = re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]+", rf"\1{MASK}", shown)
    # A name that is an address: whether its @ ends the name or a password, nobody can tell.
    shown = re.sub(r"(?<=//)[^:/@]*@[^:/]*:.*@", f"{MASK}@", shown)
    # Up to the last @: a password may hold any character, escaped or not.
    shown = re.sub(r"(?<=//)([^:/@]*):.*@", rf"\1:{MASK}@", shown)
    # A single word before the @ is a token or a misplaced password; in a database's URL it is the
    # name of a role.
    return re.sub(r"^(https?://|rediss?://|unix://|smtp[+a-z]*://)[^:/]*@", rf"\1{MASK}@", shown)
