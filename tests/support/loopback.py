"""Calls of servers on this machine, none of which speaks TLS."""

from __future__ import annotations

import ssl

# Trusts nobody. A client without one would load all authorities, which takes 60 ms of CPU each.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
