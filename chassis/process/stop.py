"""The parts of the time between SIGTERM and the platform's SIGKILL."""

from __future__ import annotations

from dataclasses import dataclass

# For closing pools, connections and telemetry after the last answer, with some time to spare.
CLOSE_SECONDS = 5
# The part of it for sending the last telemetry: a dead collector must not delay the exit.
FLUSH_SECONDS = 0.6
# A process that is still waiting ends itself this long before the platform kills it. A master
# ends after its workers.
WORKER_SPARE_SECONDS = 2
MASTER_SPARE_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StopBudget:
    """The parts of a stop, one after the other: drain, finish, close. All are in seconds.

    Args:
        grace_seconds: The whole time, which the platform gives.
        drain_seconds: The first part, in which everything is still served.
    """

    grace_seconds: int
    drain_seconds: float

    @property
    def finish_seconds(self) -> float:
        """Time for the work in flight after the drain; below 0 when the parts do not fit."""
        return self.grace_seconds - self.drain_seconds - CLOSE_SECONDS

    @property
    def worker_limit_seconds(self) -> int:
        """Seconds after SIGTERM at which the background worker ends, even if it still waits."""
        return self.grace_seconds - WORKER_SPARE_SECONDS

    @property
    def master_limit_seconds(self) -> int:
        """Seconds after SIGTERM at which gunicorn's master kills the workers that are left."""
        return self.grace_seconds - MASTER_SPARE_SECONDS
