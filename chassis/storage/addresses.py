"""Addresses of the database's hosts: the driver's own look-up knows no time limit."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import timedelta
from itertools import repeat
from typing import Any

from sqlalchemy import Engine, event

from chassis.network.deadline import Deadline
from chassis.network.resolver import Resolver

DEFAULT_PORT = "5432"


def resolve_hosts(engine: Engine, resolver: Resolver, timeout: timedelta) -> None:
    """Let each new connection of a PostgreSQL engine know the addresses of its hosts."""

    @event.listens_for(engine, "do_connect")
    def _resolve(dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        if not parameters.get("host") or parameters.get("hostaddr"):
            return
        try:
            parameters.update(with_addresses(parameters, resolver, Deadline(timeout)))
        except (OSError, UnicodeError) as error:
            reason = str(error) or "the name server did not answer in time"
            msg = f"no address of the database's host: {reason}"
            raise dialect.loaded_dbapi.OperationalError(msg) from error


def with_addresses(
    parameters: dict[str, Any], resolver: Resolver, deadline: Deadline
) -> dict[str, str]:
    """Return host, hostaddr and port for libpq: a host once for each of its addresses.

    libpq goes on to check certificates and passwords by the names. It tries one after the other.

    Raises:
        OSError, UnicodeError: no host has an address, or no name server answered.
    """
    targets = []
    failure: Exception = OSError("no host")
    for host, port in _hosts(parameters):
        try:
            targets += [(host, address, port) for address in _addresses(host, resolver, deadline)]
        except (OSError, UnicodeError) as error:
            failure = error
    if not targets:
        raise failure
    host, address, port = (",".join(each) for each in zip(*targets, strict=True))
    return {"host": host, "hostaddr": address, "port": port}


def _hosts(parameters: dict[str, Any]) -> Iterator[tuple[str, str]]:
    hosts = str(parameters["host"]).split(",")
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    return zip(hosts, ports if len(ports) > 1 else repeat(ports[0]), strict=False)


def _addresses(host: str, resolver: Resolver, deadline: Deadline) -> list[str]:
    if host[:1] in {"", "/", "@"}:  # a Unix socket has none
        return [""]
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = [each[4][0] for each in resolver.addresses(host, 0, deadline)]
        return list(dict.fromkeys(found))
