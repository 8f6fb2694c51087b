"""The cost of a long audit trail on PostgreSQL: `python -m benchmarks.trail [ROWS]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import text

from chassis.storage import migrations, trail
from chassis.storage.database import DatabaseManager
from tests.support import servers
from userservice.trail import service
from userservice.trail.schemas import EventFilter

SOMEBODY = "0197f6a0-5b7c-7d3e-9a41-00000000002a"
# Rows of a year of 50,000 users, each with all columns; ids are in order of time.
FILL = text("""
INSERT INTO audit_events
SELECT (lpad(to_hex((extract(epoch FROM since) * 1000)::bigint + n * 30), 12, '0')
    || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5((-n)::text), 1, 15))::uuid,
  since + n * interval '30 ms', 'user', user_id || lpad(to_hex(n % 50000), 12, '0'), 'http',
  CASE n % 5 WHEN 0 THEN 'user.changed' ELSE 'session.begun' END,
  user_id || lpad(to_hex(n * 17 % 50000), 12, '0'), '["name"]', 'done',
  md5((n * 2)::text), md5((n * 3)::text)
FROM generate_series(1, :rows) n,
  (SELECT now() - interval '400 days' AS since, '0197f6a0-5b7c-7d3e-9a41-' AS user_id) fixed
""")
RELATIONS = ("audit_events", "pk_audit_events", "ix_audit_events_target", "ix_audit_events_actor")
QUERIES: tuple[dict[str, str], ...] = (
    {},
    {"target": SOMEBODY},
    {"actor": SOMEBODY},
    {"action": "user.erased"},
)


def fill(database: DatabaseManager, rows: int) -> None:
    """Make up a trail."""
    with database.connection() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(FILL, {"rows": rows})
        connection.execute(text("VACUUM ANALYZE audit_events"))


def tell(name: str, work: Callable[[], Any]) -> None:
    """Print the time that work takes, and its result."""
    begun, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(f"{name:40} {seconds:9.3f} s, {cpu:7.3f} s of our CPU: {result}", flush=True)


def measure(database: DatabaseManager, rows: int) -> None:
    """Print sizes, and times of reading and purging."""
    tell("fill", lambda: fill(database, rows))
    with database.connection() as connection:
        for each in RELATIONS:
            size = connection.scalar(text("SELECT pg_relation_size(:each)"), {"each": each})
            print(f"{each:40} {(size or 0) / 1e6:9.1f} MB")
    for query in QUERIES:
        wanted = EventFilter.load_values(query)
        service.list_events(database, wanted, limit=51)  # the second one is measured
        page = lambda wanted=wanted: len(service.list_events(database, wanted, limit=51))  # noqa: E731 - short
        tell(f"page {query}", page)
    tell("export", lambda: sum(map(len, service.export_events(database, EventFilter()))))
    tell("purge", lambda: sum(trail.purge_old(database, before=datetime.now(UTC))))


def main() -> None:
    """Measure on a server of its own."""
    rows = int(next(islice(sys.argv, 1, None), "1000000"))
    with servers.postgresql() as url:
        database = DatabaseManager(url).initialize()
        migrations.upgrade(database)
        measure(database, rows)
        database.close()


if __name__ == "__main__":
    main()
