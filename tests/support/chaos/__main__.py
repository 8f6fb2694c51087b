"""Faults in a seeded random order under load, and what must be true at the end: make chaos.

Two faults may overlap. The exit status is 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx2

from tests.support.chaos import hosts
from tests.support.chaos.fault import Spell
from tests.support.chaos.faults import FAULTS, choices
from tests.support.chaos.machines import INTERPOSED
from tests.support.chaos.promises import conclude
from tests.support.chaos.scene import Chaos, say
from tests.support.waiting import DEADLINE_SECONDS, eventually

RECOVERY_SECONDS = 20.0


def happen(chaos: Chaos, names: list[str], seconds: float) -> None:
    """Let faults happen for a while, under the eyes of a probe, and wait for the recovery."""
    before = len(chaos.load.attempts)
    workers = chaos.web.children
    say(f"fault   {' and '.join(names)}, {seconds:.1f} s")
    with ExitStack() as faults:
        for name in names:
            faults.enter_context(FAULTS[name].happening(chaos))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            chaos.check(chaos.web.get("/health") == 200, "/health answers 200")
            time.sleep(0.2)
    recover(chaos, before)
    if not any(FAULTS[name].replaces_web for name in names):
        chaos.check(chaos.web.children == workers, "the same web workers serve on")
    chaos.check(all(each.is_alive for each in chaos.workers), "workers live")


def recover(chaos: Chaos, before: int) -> None:
    """Wait until the service is as it was; say how long it took, and what clients were told."""
    served = chaos.load.count(201)
    recovers_from = time.monotonic()
    try:
        eventually(
            lambda: chaos.load.count(201) > served + 5 and readiness(chaos) == "ready",
            RECOVERY_SECONDS,
        )
    except AssertionError:
        promise = f"users are registered and /ready is right {RECOVERY_SECONDS:.0f} s after it"
        chaos.check(False, f"{promise}: {readiness(chaos)}")  # noqa: FBT003
        return
    took = time.monotonic() - recovers_from
    ended = Counter(attempt.status for attempt in chaos.load.attempts[before:])
    counts = ", ".join(f"{number} times {status}" for status, number in sorted(ended.items()))
    say(f"served  again after {took:.1f} s; answers meanwhile: {counts}")


def readiness(chaos: Chaos) -> str:
    """Return the word of /ready, or the reason why there is none."""
    try:
        answer = httpx2.get(f"{chaos.web.url}/ready", timeout=DEADLINE_SECONDS)
    except httpx2.TransportError as error:
        return type(error).__name__
    return str(answer.json().get("status"))


def run(chaos: Chaos, seconds: float) -> Counter[str]:
    """Let faults happen until the time is over or a promise broken; return how often each did."""
    happened: Counter[str] = Counter()
    repeating = []
    until = time.monotonic() + seconds
    with chaos.load:
        for names in choices(chaos.random):
            if time.monotonic() >= until or chaos.problems:
                break
            began = time.time()
            happen(chaos, names, chaos.random.uniform(0.5, 4))
            happened.update(names)
            if any(FAULTS[name].may_repeat for name in names):
                repeating.append(Spell(began, time.time()))
        conclude(chaos, repeating)
    return happened


def main() -> int:
    """Run for a while; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make chaos",
        description=__doc__,
        epilog="\n".join(["faults:", *(f"  {name}" for name in FAULTS)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    options = parser.parse_args()
    say(f"seed    {options.seed}, {options.seconds:.0f} s")
    if not hosts.can_be_made():
        say(f"left out, for want of cc: {', '.join(INTERPOSED)}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        source = random.Random(options.seed)  # noqa: S311 - it is to be repeatable
        chaos = Chaos(Path(folder), running, source)
        happened = run(chaos, options.seconds)
        if chaos.problems:
            sys.stdout.write(chaos.web.output[-4000:])
    for name in FAULTS:
        say(f"happened {happened[name]:3} times: {name}")
    say(
        f"result  {happened.total()} faults, {len(chaos.problems)} promises broken,"
        f" seed {options.seed}"
    )
    return 1 if chaos.problems else 0


if __name__ == "__main__":
    sys.exit(main())
