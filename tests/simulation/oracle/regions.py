"""A region that is down is probed with single calls, for all of its destinations that have failed.

It is down for a worker when several of its destinations are, and no call to the region was answered since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from pushrail_stream.core.signals import Attempted, BusFound, BusMissing, RegistryChanged
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation
from tests.simulation.oracle.windows import DOWN_AFTER, FIRST_PAUSE_SECS, FORGOTTEN_SECS, ROUNDING_SECS, SEVERAL, Made

ASSERTION: Final = "single calls probe a region that is down"


@dataclass
class _Region:
    """A region as one worker sees it, since its last answer there."""

    name: str
    host: str
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By destination: its failed calls in a row."""
    first_at: dict[str, float] = field(default_factory=dict)
    last_at: dict[str, float] = field(default_factory=dict)
    """By destination: the ends of its first and last failed call."""
    down_at: float | None = None
    probes: list[float] = field(default_factory=list)
    """The times at which calls of destinations that had failed began while the region was down."""

    def add(self, made: Made) -> None:
        """A call failed as a whole."""
        name = made.told.destination.id
        if self.down_at is not None and self.first_at.get(name, made.at) < made.begun_at > self.down_at + ROUNDING_SECS:
            self.probes.append(made.begun_at)
        self.failures[name] += 1
        self.first_at.setdefault(name, made.at)
        self.last_at[name] = made.at
        if self.down_at is None and sum(count >= DOWN_AFTER for count in self.failures.values()) >= SEVERAL:
            self.down_at = made.at

    def is_forgotten(self, made: Made) -> bool:
        """Whether the worker may have forgotten a failure before this call."""
        return any(made.begun_at - at > FORGOTTEN_SECS for at in self.last_at.values())

    def end(self) -> Iterator[Violation]:
        """The region is not down any more, or nobody knows. Tells the probes that came too soon."""
        for before, at in pairwise(sorted(self.probes)):
            if at - before < FIRST_PAUSE_SECS - ROUNDING_SECS:
                sentence = (
                    f"{self.host} called destinations of {self.name} at {before:.3f} and {at:.3f}; the region is down "
                    f"since {self.down_at:.3f}, and one probe serves all that have failed"
                )
                yield Violation(ASSERTION, sentence, at)
        self.failures.clear()
        self.first_at.clear()
        self.last_at.clear()
        self.probes.clear()
        self.down_at = None


def find_crowded_regions(story: Deliveries) -> Iterator[Violation]:
    """A violation for each two calls to a region that is down which are too close to each other."""
    evidence = story.evidence
    if evidence.retries_asked_for:  # an operator may order calls at any time
        return
    failed = {call.request_id for call in evidence.calls if call.api == "PutEvents" and (call.status or 0) >= 500}
    regions: dict[str, dict[str, _Region]] = defaultdict(dict)
    for seen in evidence.signals:
        if isinstance(seen.signal, Attempted):
            made = Made(seen.at - seen.signal.duration_secs, seen.at, seen.signal)
            bus = seen.signal.destination.bus
            name = f"{bus.type} in {bus.region}"
            region = regions[seen.host].setdefault(name, _Region(name, seen.host))
            yield from _take(region, made, is_failure=seen.signal.request_id in failed)
        elif isinstance(seen.signal, RegistryChanged | BusMissing | BusFound):
            yield from _end(regions[seen.host])
    for of_host in regions.values():
        yield from _end(of_host)


def _take(region: _Region, made: Made, *, is_failure: bool) -> Iterator[Violation]:
    is_known = is_failure and made.has_failed and made.told.flush != "alone"
    if not is_known or region.is_forgotten(made):
        yield from region.end()
    if is_known:
        region.add(made)


def _end(regions: dict[str, _Region]) -> Iterator[Violation]:
    for region in regions.values():
        yield from region.end()
