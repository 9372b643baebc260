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
    settings = story.evidence.settings.flood_guard
    handled = _handled(story, host)
    first = 0
    for index, copy in enumerate(copies):
        until = copy.written.at
        while copies[first].written.at < until - settings.window_secs / 2:
            first += 1
        of = Counter(one.written.record.key for one in copies[first : index + 1])
        others = index + 1 - first - max(of.values())
        if others <= 2 * settings.min_dead_letters or len(of) <= 2 * settings.min_customers:
            continue
        since = copies[first].written.at - settings.window_secs
        good = sum(count for at, count in handled if since <= at <= until + settings.window_secs)
        if good * settings.share < (1 - settings.share) * others / 2:
            sentence = f"{host} wrote {index + 1 - first} dead letters of {len(of)} customers until {until:.3f}"
            yield Violation(ASSERTION, f"{sentence}, and handled {good} other records at about that time", until)
            return


def _handled(story: Deliveries, host: str) -> list[tuple[float, int]]:
    """The times at which a worker brought other records on, and their numbers."""
    calls = [(call.at, len(call.entries)) for call in story.evidence.calls if call.host == host]
    written = [copy.written for copy in story.copies if not (copy.is_dead and copy.headers.reason in _COUNTED)]
    written += [said.written for said in story.attempts if said.get("status") == "skipped"]
    return calls + [(one.at, 1) for one in written if one.host == host]
