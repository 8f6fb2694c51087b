"""One line that says how far a run is and when it will be done."""

from __future__ import annotations

import sys
import time

COLUMNS = 78
SECONDS_BETWEEN_LINES = 10  # where no terminal shows one line only


class Progress:
    """Counts steps of roughly known length."""

    def __init__(self, total_seconds: float) -> None:
        self._total = total_seconds
        self._done = 0.0
        self._started_at = time.monotonic()
        self._written_at = 0.0

    def step(self, text: str, seconds: float) -> None:
        """Say what happens next and about how long it takes."""
        elapsed = time.monotonic() - self._started_at
        line = f"[{min(99, 100 * self._done / self._total):3.0f} %, {elapsed:4.0f} s] {text}"
        self._done += seconds
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line[:COLUMNS]:{COLUMNS}}")
        elif elapsed - self._written_at > SECONDS_BETWEEN_LINES:
            self._written_at = elapsed
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def finish(self) -> None:
        """Leave the line."""
        sys.stderr.write("\n")
