"""Units of stored metrics, as OTLP names them.

A gauge without a unit of its own must not say `1`: collectors would take it for a ratio, and
rename it for Prometheus.
"""

from __future__ import annotations

# End of a name -> unit.
_ENDS = {"_seconds": "s", "_seconds_total": "s", "_bytes": "By"}
_COUNTED = {
    "database_pool_connections": "{connection}",
    "database_pool_limit": "{connection}",
    "outbox_messages": "{message}",
    "worker_pool_queue_depth": "{task}",
    "rate_limit_decisions_total": "{request}",
    "rate_limit_errors_total": "{request}",
    "log_lines_dropped_total": "{line}",
    "process_open_fds": "{descriptor}",
    "process_max_fds": "{descriptor}",
}


def unit_of(name: str) -> str:
    """Return the unit of a metric, by its name in Prometheus; an empty text where it has none."""
    ends = (unit for end, unit in _ENDS.items() if name.endswith(end))
    return _COUNTED.get(name) or next(ends, "")
