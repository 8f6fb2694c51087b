"""The promises of docs/reliability.md, compared with what clients and provider saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import psutil

from tests.support.chaos.fault import Spell
from tests.support.chaos.mail import RETRY_AFTER_SECONDS
from tests.support.chaos.scene import Chaos, say
from tests.support.load import Attempt, Load, Stored, missing_mails, violations
from tests.support.provider import Mail
from tests.support.waiting import eventually

# Timeouts of 1 and 2 s, one after the other, on a machine that does all of this at once.
ANSWER_SECONDS = 15.0
MAIL_SECONDS = 90
# A result that could not be stored is found missing when the claim ends.
AFTERMATH_SECONDS = 6.0
# The memory limit of a pod.
POD_BYTES = 512 << 20


def conclude(chaos: Chaos, repeating: Sequence[Spell]) -> None:
    """Wait for the last e-mails, then compare what was said with what is there.

    Args:
        chaos: The service, whose faults are over.
        repeating: The times in which an e-mail may have been sent twice.
    """
    chaos.load.stop()
    stored = await_mails(chaos)
    for problem in [
        *violations(chaos.load, stored, chaos.provider.attempts),
        *chaos.imports.problems(chaos.database.url),
        *unanswered(chaos.load.unanswered, chaos.silences),
        *wrong_answers(chaos.load),
        *repeated(chaos.provider.taken, failures(chaos), repeating),
        *impatient(chaos.provider.attempts, repeating),
        *oversized(chaos),
    ]:
        chaos.check(False, problem)  # noqa: FBT003
    summarize(chaos, stored)


def await_mails(chaos: Chaos) -> Stored:
    """Wait until nobody misses an e-mail, and no import is open; return what is stored."""
    url, pattern = chaos.database.url, f"{chaos.load.tag}-%"

    def is_done() -> bool:
        missing = missing_mails(Stored.read(url, pattern), chaos.provider.taken)
        return not missing and not list(chaos.imports.problems(url))

    try:
        eventually(is_done, MAIL_SECONDS)
    except AssertionError:
        say(f"waited  {MAIL_SECONDS} s for the last e-mails and imports in vain")
    return Stored.read(url, pattern)


def unanswered(attempts: Sequence[Attempt], silences: Sequence[Spell]) -> Iterator[str]:
    """Yield requests without an answer, unless the process was killed that had them."""
    for each in attempts:
        over_at = each.sent_at + each.seconds
        if not any(silence.touches(each.sent_at, over_at) for silence in silences):
            yield f"every request is answered: {each}"


def wrong_answers(load: Load) -> Iterator[str]:
    """Yield answers that no fault explains, or that came late."""
    if strange := set(load.statuses) - {0, 201, 503}:
        yield f"answers are 201 or 503, not {strange}"
    slowest = max(attempt.seconds for attempt in load.attempts)
    if slowest >= ANSWER_SECONDS:
        yield f"answers come in time: {slowest:.1f} s"


def repeated(
    taken: Sequence[Mail], failed: Collection[str], repeating: Sequence[Spell]
) -> Iterator[str]:
    """Yield e-mails that were taken again although their result could be stored.

    Args:
        taken: The e-mails that the provider took, in order.
        failed: The keys of those of which the worker knows a try that failed, by a timeout as
            a rule: the provider may have taken it.
        repeating: The times in which a result could not be stored.
    """
    for key, times in _times(taken).items():
        is_excused = key in failed or any(
            spell.touches(at, at + AFTERMATH_SECONDS) for spell in repeating for at in times[:-1]
        )
        if len(times) > 1 and not is_excused:
            yield f"the e-mail {key} is taken once, not at {times}"


def impatient(attempts: Sequence[Mail], repeating: Sequence[Spell]) -> Iterator[str]:
    """Yield e-mails that were tried again sooner than a 429 allowed."""
    by_key = defaultdict(list)
    for each in attempts:
        by_key[each.key].append(each)
    for key, tries in by_key.items():
        for refused, after in pairwise(tries):
            is_soon = refused.answer == 429 and after.at - refused.at < RETRY_AFTER_SECONDS - 0.1
            if is_soon and not any(
                spell.touches(refused.at - AFTERMATH_SECONDS, after.at) for spell in repeating
            ):
                yield f"Retry-After is heeded: {key} again after {after.at - refused.at:.1f} s"


def failures(chaos: Chaos) -> set[str]:
    """Return the keys of e-mails of which some worker knows a try that failed."""
    lines = (worker.logged("Failed to send welcome email") for worker in chaos.every_worker)
    return {line["message_id"] for each in lines for line in each}


def oversized(chaos: Chaos) -> Iterator[str]:
    """Yield processes that need more memory than their pod has."""
    for each in (chaos.web, *chaos.workers):
        size = psutil.Process(each.process.pid).memory_info().rss
        if size > POD_BYTES:
            yield f"a process needs less than {POD_BYTES >> 20} MiB, not {size >> 20}"


def summarize(chaos: Chaos, stored: Stored) -> None:
    """Say how much was compared."""
    load, provider = chaos.load, chaos.provider
    slowest = max(attempt.seconds for attempt in load.attempts)
    keys = {mail.key for mail in provider.taken}
    say(
        f"checked {len(load.attempts)} requests: {dict(load.statuses)},"
        f" the slowest {slowest:.1f} s; {len(load.acknowledged)} users acknowledged,"
        f" {len(stored.emails)} stored, {len(chaos.imports.expected)} imported;"
        f" {len(provider.attempts)} tries of {len(keys)} e-mails,"
        f" {len(provider.taken) - len(keys)} taken more than once"
    )


def _times(taken: Sequence[Mail]) -> dict[str, list[float]]:
    times = defaultdict(list)
    for mail in taken:
        times[mail.key].append(mail.at)
    return times
