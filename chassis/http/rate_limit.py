"""Rate limits: limit(name) on a route, counted in Redis or, without it, per process."""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import request

from chassis.errors import TooManyRequests
from chassis.http.auth import is_privileged, principal
from chassis.http.context import web_context
from chassis.once import once_property
from chassis.security import fingerprint
from chassis.telemetry import instruments
from chassis.telemetry.instrumentation import client_spans, trace_redis
from chassis.telemetry.outages import Outage

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from limits import RateLimitItem
    from limits.storage import Storage
    from limits.strategies import SlidingWindowCounterRateLimiter

logger = logging.getLogger(__name__)
View = TypeVar("View", bound=Callable[..., Any])

# After a failure of Redis the process counts alone for this time, then tries Redis again.
PAUSE_SECONDS = 5.0

_TIGHTEST = "chassis.rate_limit"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision of a limit about one request."""

    is_allowed: bool
    limit: int
    remaining: int
    window: timedelta
    reset: timedelta


class RateLimiter:
    """Sliding windows over the recent requests of each caller.

    Fails open: without Redis each process counts for itself. A caller then has the limit once
    in each process, and no caller is stopped by mistake.

    Args:
        limits: Name -> a rate such as 30/minute.
        redis_url: The Redis in which all processes count; empty: each process counts alone.
        timeout: Longest time of a call to Redis.
    """

    def __init__(self, limits: Mapping[str, str], *, redis_url: str, timeout: timedelta) -> None:
        self._rates = dict(limits)
        self._redis_url = redis_url
        self._timeout_seconds = timeout.total_seconds()
        self._paused_until = 0.0
        self._outage = Outage(
            logger,
            away="Rate limits fall back to this process",
            back="Rate limits are counted together again",
        )
        self._local_lock = threading.Lock()
        instruments.prepare_rate_limits(self._rates)

    def hit(self, name: str, key: str) -> Verdict:
        """Count a request against a limit and return the decision."""
        rate = self._items[name]
        if self._redis_url and time.monotonic() >= self._paused_until:
            try:
                with client_spans():
                    verdict = _hit(self._shared, rate, name, key)
            except Exception as error:  # noqa: BLE001 - the storage raises its driver's errors
                self._pause(error)
            else:
                self._outage.end()
                return verdict
        # The library's memory starts a thread now and then; two callers would start the same one.
        with self._local_lock:
            return _hit(self._local, rate, name, key)

    def _pause(self, error: Exception) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        instruments.count_rate_limit_error()
        self._outage.begin(error_type=type(error).__name__)

    # Importing the library costs a tenth of a start; the first limited request pays it.

    @once_property
    def _items(self) -> dict[str, RateLimitItem]:
        from limits import parse  # noqa: PLC0415 - see above

        return {name: parse(rate) for name, rate in self._rates.items()}

    @once_property
    def _local(self) -> SlidingWindowCounterRateLimiter:
        from limits.storage import MemoryStorage  # noqa: PLC0415 - see above

        return _strategy(MemoryStorage())

    @once_property
    def _shared(self) -> SlidingWindowCounterRateLimiter:
        from limits.storage import RedisStorage  # noqa: PLC0415 - see above

        timeout = self._timeout_seconds
        storage = RedisStorage(
            self._redis_url, socket_timeout=timeout, socket_connect_timeout=timeout
        )
        trace_redis(storage.storage)
        return _strategy(storage)


def limit(name: str) -> Callable[[View], View]:
    """Limit how often a client may call a route; who has the rights of its scope is exempt."""

    def mark(view: View) -> View:
        @wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            _apply(name, lambda: f"client:{client_network()}")
            return view(*args, **kwargs)

        limited.__dict__["limit"] = name
        return cast("View", limited)

    return mark


def limit_address(name: str, address: str) -> None:
    """Limit the requests that name one e-mail address, all clients counted together.

    Args:
        name: The limit's name.
        address: The address, folded as it is stored, so that another spelling counts as well.

    Raises:
        TooManyRequests: the address was named too often.
    """
    # A fingerprint: Redis is no place for addresses.
    _apply(name, lambda: f"address:{fingerprint(address.encode())}")


def limit_caller(name: str) -> Callable[[View], View]:
    """Limit how often each caller may call a route; nobody is exempt.

    For routes at which a thief of somebody's token could guess on.
    """

    def mark(view: View) -> View:
        @wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            caller = principal()
            _count(name, f"caller:{caller.name if caller is not None else ''}")
            return view(*args, **kwargs)

        limited.__dict__["limit"] = name
        return cast("View", limited)

    return mark


def is_within(name: str, address: str) -> bool:
    """Count a request that names an e-mail address; return False beyond the limit.

    The answer shows nothing of it: neither a status nor a header. Nobody is exempt.
    """
    verdict = _count_unseen(name, address)
    return verdict is None or verdict.is_allowed


def require_within(name: str, address: str) -> None:
    """Do the same, and refuse the request beyond the limit; no header tells how much is left.

    Raises:
        TooManyRequests: the address was named too often, by whomever.
    """
    verdict = _count_unseen(name, address)
    if verdict is not None and not verdict.is_allowed:
        raise TooManyRequests(retry_after=verdict.reset)


def _count_unseen(name: str, address: str) -> Verdict | None:
    limiter = web_context().rate_limiter
    if limiter is None:
        return None
    verdict = limiter.hit(name, f"address:{fingerprint(address.encode())}")
    instruments.count_rate_limit(name, is_allowed=verdict.is_allowed)
    return verdict


def client_network() -> str:
    """Return the client's name for a limit: its IPv4 address, or the /64 of its IPv6 address."""
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    address = getattr(address, "ipv4_mapped", None) or address  # one name for each client
    prefix = 64 if address.version == 6 else 32  # noqa: PLR2004 - IPv6
    return str(ipaddress.ip_network((address, prefix), strict=False))


def _apply(name: str, make_key: Callable[[], str]) -> None:
    if not is_privileged():
        _count(name, make_key())


def _count(name: str, key: str) -> None:
    limiter = web_context().rate_limiter
    if limiter is None:
        return
    verdict = limiter.hit(name, key)
    instruments.count_rate_limit(name, is_allowed=verdict.is_allowed)
    tightest = request.environ.get(_TIGHTEST)
    if tightest is None or verdict.remaining <= tightest[1].remaining:
        request.environ[_TIGHTEST] = (name, verdict)
    if not verdict.is_allowed:
        raise TooManyRequests(retry_after=verdict.reset)


def rate_limit_headers(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """Return the headers that tell a limited caller how much is left; empty without a limit."""
    if _TIGHTEST not in environ:
        return []
    name, verdict = cast("tuple[str, Verdict]", environ[_TIGHTEST])
    return [
        ("RateLimit-Policy", f'"{name}";q={verdict.limit};w={_seconds(verdict.window)}'),
        ("RateLimit", f'"{name}";r={verdict.remaining};t={_seconds(verdict.reset)}'),
    ]


def _seconds(span: timedelta) -> int:
    return max(1, math.ceil(span.total_seconds()))


def _strategy(storage: Storage) -> SlidingWindowCounterRateLimiter:
    from limits.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415 - see above

    return SlidingWindowCounterRateLimiter(storage)


def _hit(
    strategy: SlidingWindowCounterRateLimiter, rate: RateLimitItem, name: str, key: str
) -> Verdict:
    is_allowed = strategy.hit(rate, name, key)
    stats = strategy.get_window_stats(rate, name, key)
    return Verdict(
        is_allowed,
        rate.amount,
        stats.remaining,
        timedelta(seconds=rate.get_expiry()),
        timedelta(seconds=max(0.0, stats.reset_time - time.time())),
    )
