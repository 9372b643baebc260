"""A destination that throttles gets fewer calls for a minute, and one that is down gets one call at a time.

A worker's signals tell when each call began and ended, as the worker saw it, also when no server saw the call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pushrail_stream.core.outcome import Delivered, Retryable, Throttled
from pushrail_stream.core.signals import Attempted, BusFound, BusMissing, RegistryChanged
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation

ASSERTION: Final = "a destination that throttles or is down gets fewer calls"
_BELOW_SECS: Final = 60.0
"""Seconds for which a destination that has throttled gets fewer calls than it may have."""
_APART_SECS: Final = 60.0
"""Seconds before a throttled call in which no other call may have failed. A worker cuts the calls in flight once for
the calls that were sent before, and no attempt goes on for longer."""
USUAL: Final = 8
"""Calls in flight of a destination that nothing is known about, if it may have as many."""
DOWN_AFTER: Final = 8
"""Failed calls in a row after which a destination is down."""
SEVERAL: Final = 3
"""Destinations of one region that fail when a worker may take the whole region for down. Its rules are others."""
FIRST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 2.0
"""The pause after the call with which a destination went down. Each further failure doubles it, up to the longest."""
FORGOTTEN_SECS: Final = 50.0
"""Seconds without a call after which a worker may soon forget that a destination is down."""
ROUNDING_SECS: Final = 0.01
"""A difference of two times may be off by less than this."""


class Made(NamedTuple):
    """A call as its worker saw it."""

    begun_at: float
    at: float
    told: Attempted

    @property
    def has_failed(self) -> bool:
        """Whether the call as a whole failed, and we are not to blame."""
        return all(isinstance(one, Retryable) and not one.is_our_fault for one in self.told.outcomes)

    @property
    def is_delivered(self) -> bool:
        """Whether each entry was delivered."""
        return all(isinstance(one, Delivered) for one in self.told.outcomes)

    @property
    def is_throttled(self) -> bool:
        """Whether the call or one of its entries was throttled."""
        return any(isinstance(one, Throttled) for one in self.told.outcomes)


@dataclass
class _Row:
    """The failed calls in a row to one destination."""

    failures: int = 0
    last_at: float = 0.0
    """End of the last one. From the failure on that makes the destination down, only of those that began later."""
    down_at: float | None = None
    pauses: int = 0

    @property
    def next_call_at(self) -> float:
        """No call may begin before this time, while the destination is down."""
        return self.last_at + min(_LONGEST_PAUSE_SECS, FIRST_PAUSE_SECS * 2.0 ** (self.pauses - 1))

    def add(self, made: Made) -> None:
        """A call failed as a whole."""
        if self.down_at is not None and made.begun_at <= self.down_at + ROUNDING_SECS:
            return  # it was in flight when the destination went down
        self.failures += 1
        self.last_at = made.at
        if self.failures >= DOWN_AFTER:
            self.pauses += 1
            self.down_at = made.at if self.down_at is None else self.down_at


@dataclass
class _Rows:
    """The rows of one worker, and by region the destinations that have failed since the last delivery there."""

    of: dict[str, _Row] = field(default_factory=lambda: defaultdict(_Row))
    failing: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def forget(self, destinations: Iterator[str]) -> None:
        """Nothing is known about these destinations any more."""
        for one in destinations:
            self.of.pop(one, None)

    def note(self, made: Made, *, is_failure: bool) -> None:
        """A call ended."""
        destination, region = made.told.destination.id, made.told.destination.bus.region
        if made.is_delivered:
            self.failing[region].clear()
        else:
            self.failing[region].add(destination)
        if len(self.failing[region]) >= SEVERAL:
            self.forget(iter(self.failing[region]))
        elif is_failure:
            self.of[destination].add(made)
        else:
            self.forget(iter([destination]))


def find_unslowed(story: Deliveries) -> Iterator[Violation]:
    """A violation for each destination with calls that its throttling or its outage forbids."""
    for (host, destination), calls in calls_made(story).items():
        yield from _find_unthrottled(story, host, destination, calls)
    if not story.evidence.retries_asked_for:  # an operator may order calls at any time
        yield from _find_calls_when_down(story)


def calls_made(story: Deliveries) -> dict[tuple[str, str], list[Made]]:
    """By worker and destination: its calls in the order of their ends. A call with an entry sent alone is left out.

    Its signal comes when all entries of its batch were sent, so it tells no time.
    """
    found: dict[tuple[str, str], list[Made]] = defaultdict(list)
    for at, host, signal in story.evidence.signals:
        if isinstance(signal, Attempted) and signal.flush != "alone":
            found[host, signal.destination.id].append(Made(at - signal.duration_secs, at, signal))
    return found


def most_in_flight(calls: list[Made], since: float, until: float) -> int:
    """The most calls that were in flight when one began in this period."""
    edges = sorted([(one.begun_at, 1) for one in calls] + [(one.at, -1) for one in calls])
    most = open_now = 0
    for at, step in edges:
        open_now += step
        if step > 0 and since < at <= until:
            most = max(most, open_now)
    return most


def _find_unthrottled(story: Deliveries, host: str, destination: str, calls: list[Made]) -> Iterator[Violation]:
    limit = story.documents.call_limit(destination, story.evidence.settings.delivery.max_in_flight)
    allowed = max(1, limit - 1)
    failed_at = [one.at for one in calls if not one.is_delivered]
    for one in calls:
        if not one.is_throttled or any(one.begun_at - _APART_SECS <= at < one.at for at in failed_at):
            continue
        since = one.at + ROUNDING_SECS
        if (most := most_in_flight(calls, since, one.at + _BELOW_SECS)) > allowed:
            sentence = (
                f"{host} had {most} calls to {destination} in flight in the minute after {one.at:.3f}, when it "
                f"throttled; {allowed} are allowed"
            )
            yield Violation(ASSERTION, sentence, one.at)


def _find_calls_when_down(story: Deliveries) -> Iterator[Violation]:
    """Calls to a destination that is down which overlap another one, or come too soon after it."""
    failed = {call.request_id for call in story.evidence.calls if call.api == "PutEvents" and (call.status or 0) >= 500}
    rows: dict[str, _Rows] = defaultdict(_Rows)
    for at, host, signal in story.evidence.signals:
        match signal:
            case Attempted() if signal.flush != "alone":
                made = Made(at - signal.duration_secs, at, signal)
                yield from _judge(host, rows[host].of[signal.destination.id], made)
                rows[host].note(made, is_failure=signal.request_id in failed and made.has_failed)
            case RegistryChanged(put, removed):
                rows[host].forget(iter((*put, *removed)))
            case BusMissing() | BusFound():
                rows[host].forget(iter([signal.destination.id]))
            case _:
                pass


def _judge(host: str, row: _Row, made: Made) -> Iterator[Violation]:
    if made.begun_at - row.last_at > FORGOTTEN_SECS:
        row.failures, row.down_at, row.pauses = 0, None, 0
    if row.down_at is None or made.begun_at <= row.down_at + ROUNDING_SECS:
        return
    if made.begun_at < row.next_call_at - ROUNDING_SECS:
        sentence = (
            f"{host} called {made.told.destination.id} at {made.begun_at:.3f}; it is down since {row.down_at:.3f}, and "
            f"the next call was due at {row.next_call_at:.3f}"
        )
        yield Violation(ASSERTION, sentence, made.begun_at)
