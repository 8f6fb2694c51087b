"""How the time between SIGTERM and the platform's SIGKILL is spent."""

from __future__ import annotations

from dataclasses import dataclass

# For pools, connections and telemetry, when all requests are answered; to spare is part of it.
CLOSE_SECONDS = 5
# Of these, for what telemetry has left to send: a dead collector must not delay the exit.
FLUSH_SECONDS = 0.6
# How long before the platform a process ends itself, whatever its stop waits for. A master comes
# after its workers.
WORKER_SPARE_SECONDS = 2
MASTER_SPARE_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StopBudget:
    """The parts of a stop, one after the other: drain, finish, close. All are in seconds.

    Args:
        grace_seconds: All of it, which is what the platform gives.
        drain_seconds: While these last, everything is served still.
    """

    grace_seconds: int
    drain_seconds: float

    @property
    def finish_seconds(self) -> float:
        """How long the work in flight may then take; below 0 when the parts do not fit."""
        return self.grace_seconds - self.drain_seconds - CLOSE_SECONDS

    @property
    def worker_limit_seconds(self) -> int:
        """After this time from SIGTERM the background worker ends, whatever it waits for."""
        return self.grace_seconds - WORKER_SPARE_SECONDS

    @property
    def master_limit_seconds(self) -> int:
        """After this time from SIGTERM gunicorn's master kills the workers that are left."""
        return self.grace_seconds - MASTER_SPARE_SECONDS
