"""The flood guard stops a worker when most records of many customers would become dead letters, and only then."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.signals import Flooded
from tests.simulation.oracle.deliveries import CopySeen, Deliveries
from tests.simulation.oracle.evidence import Violation

ASSERTION: Final = "the flood guard stops a worker in a flood only"
_COUNTED: Final = frozenset({"undecodable", "rejected"})
"""Reasons of dead letters that the guard counts."""
_BETWEEN_CHECKS: Final = 25
"""Dead letters that the guard may count between two checks."""
_PROMPT_SECS: Final = 1.0
"""Time in seconds by which a letter may come to Kafka later than others do, to be judged."""


def find_wrong_stops(story: Deliveries) -> Iterator[Violation]:
    """A violation for each stop without a flood, and for each flood without a stop."""
    settings = story.evidence.settings.flood_guard
    letters: dict[str, list[CopySeen]] = defaultdict(list)
    for copy in story.copies:
        if copy.is_dead and copy.headers.reason in _COUNTED and copy.headers.replay is None:
            letters[copy.written.host].append(copy)
    for at, host, signal in story.evidence.signals:
        if isinstance(signal, Flooded):
            affected = _bad_customers(story, at)
            if affected < settings.min_customers:
                sentence = f"{host} stopped at {at:.3f}: {affected} customers had dead letters by then"
                yield Violation(ASSERTION, f"{sentence}, and a flood has {settings.min_customers}", at)
    for host, copies in letters.items():
        if host not in story.evidence.unguarded:
            yield from _find_flood(story, host, copies)


def _bad_customers(story: Deliveries, at: float) -> int:
    """Customers with records that are no events, or with dead letters, up to a time."""
    keys = {seen.written.record.key for seen in story.events if seen.owner is None and seen.written.at <= at}
    keys |= {one.written.record.key for one in story.copies if one.is_dead and one.written.at <= at}
    return len(keys)


def _find_flood(story: Deliveries, host: str, copies: list[CopySeen]) -> Iterator[Violation]:
    """A window in which a worker gave up twice as much as makes a flood, and did hardly anything else."""
    settings, prompt = story.evidence.settings.flood_guard, _prompt(copies)
    handled, first = list(_handled(story, host)), 0
    for index, copy in enumerate(prompt):
        until = copy.written.at
        while prompt[first].written.at < until - settings.window_secs / 2:
            first += 1
        dead = Counter(one.written.record.key for one in prompt[first : index + 1])
        others = index + 1 - first - max(dead.values())
        if others <= 2 * settings.min_dead_letters + _BETWEEN_CHECKS:
            continue
        since = prompt[first].written.at - settings.window_secs
        good = Counter(customer for at, customer in handled if since <= at <= until + settings.window_secs)
        affected = sum(count * (1 - settings.share) >= good[one] * settings.share for one, count in dead.items())
        is_most = good.total() * settings.share < (1 - settings.share) * others / 2
        if is_most and affected >= settings.min_customers:
            sentence = f"{host} wrote {index + 1 - first} dead letters of {len(dead)} customers until {until:.3f}"
            yield Violation(
                ASSERTION, f"{sentence}, and handled {good.total()} other records at about that time", until
            )
            return


def _prompt(copies: list[CopySeen]) -> list[CopySeen]:
    """The dead letters that were written when the guard counted them. Kafka may take others later, all at once."""
    waits = [copy.written.at - copy.headers.failed_at_ms / 1000 for copy in copies]
    return [copy for copy, wait in zip(copies, waits, strict=True) if wait - min(waits) <= _PROMPT_SECS]


def _handled(story: Deliveries, host: str) -> Iterator[tuple[float, bytes | None]]:
    """The times at which a worker brought other records on, and their customers."""
    for call in story.evidence.calls:
        if call.host == host:
            yield from ((call.at, entry.resources[0].encode() if entry.resources else None) for entry in call.entries)
    for copy in story.copies:
        if copy.written.host == host and not (copy.is_dead and copy.headers.reason in _COUNTED):
            yield copy.written.at, copy.written.record.key
    for said in story.attempts:
        if said.written.host == host and said.get("status") == "skipped":
            yield said.written.at, str(said.get("customerExternalId")).encode()
