"""The image's HEALTHCHECK: asks the process of its container whether it is alive.

It runs each half minute, without the service's packages (`python -I -S`), and asks BIND_ADDRESS,
or else by name, so that it reaches a process that listens on IPv6 alone.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

TIMEOUT_SECONDS = 2
COMMAND = Path("/proc/1/cmdline")
EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 - values of BIND_ADDRESS, and nobody listens here


def find_port(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Return the port on which a process answers /health; 0: it has none.

    Args:
        command: The arguments with which the first process of the container was started.
        variables: Its environment, which the process has accepted.
    """
    if "admin" in command:
        return 0
    if "worker" in command:
        return int(variables.get("WORKER_METRICS_PORT") or 0)
    return int(variables.get("MANAGEMENT_PORT") or 0) or int(variables.get("PORT") or 8080)


def find_host(variables: Mapping[str, str]) -> str:
    """Return the host on which a process listens."""
    address = variables.get("BIND_ADDRESS") or ""
    return "localhost" if address in EVERYWHERE else address


def is_healthy(port: int, host: str = "localhost") -> bool:
    """Ask; a process without a port is healthy as long as its container runs."""
    if not port:
        return True
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        with closing(connection):
            connection.request("GET", "/health")
            with connection.getresponse() as answer:
                return answer.status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    arguments = COMMAND.read_bytes().decode(errors="replace").split("\0")
    sys.exit(not is_healthy(find_port(arguments, os.environ), find_host(os.environ)))
