"""Counts of a worker's signals, from which `observe/metrics.py` makes series.

Counting is plain arithmetic on plain numbers, because it is done per event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, get_args

from pushrail_stream.core import signals
from pushrail_stream.core.batch import Flush
from pushrail_stream.core.delivery import Problem, Trigger
from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.core.retry import DeadReason, RetryReason
from pushrail_stream.core.signals import Signal
from pushrail_stream.core.units import UNIT_BYTES, units_of
from pushrail_stream.observe.series import Histogram
from pushrail_stream.observe.timeliness import LATE_SECS, Cause, cause_of_delay

_MAX_CODES: Final = 100
"""Error codes with a series of their own. AWS may use any text as a code, so further ones are counted as ``other``."""
_OWN_CREDENTIALS: Final = "own_credentials"
_FAILURES: Final[Mapping[type, str]] = {
    signals.CopyFailed: "copy",
    signals.CommitFailed: "commit",
    signals.KafkaTrouble: "kafka",
    signals.RecordsTrimmed: "trimmed",
    signals.PartitionRestarted: "restarted",
    signals.CursorTrimmed: "backlog_trimmed",
    signals.CursorEndangered: "backlog_endangered",
    signals.OwnCredentialsFailed: _OWN_CREDENTIALS,
}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for the duration of a call, which is cut off after ``hold_secs``, 10 s by default."""
_LATENCIES: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, LATE_SECS, 60.0, 300.0, 600.0, 3_600.0, 21_600.0,
)  # fmt: skip
_LATE_MS: Final = LATE_SECS * 1000
_TIER_SECS: Final = 30.0
"""Seconds after the delay of a retry topic within which a delivery from it counts as made in time. The bucket between
the two bounds shows the deliveries of one topic: delays of topics differ more."""
_AGES: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0)
_BYTES: Final = (1_000.0, 5_000.0, 10_000.0, 50_000.0, 100_000.0, 250_000.0, 500_000.0, 1_000_000.0)
_ENTRIES: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 9.0, 10.0, 25.0, 50.0, 99.0, 100.0)
OTHERS: Final = "_other"
"""The destinations without a series of their own. No destination's id begins with an underscore."""


class SignalCounts:
    """Counts signals."""

    def __init__(
        self,
        tiers: Mapping[str, float] = MappingProxyType({}),
        max_destinations: int = 0,
        find_destination: Callable[[str], object] = lambda _id: True,
    ) -> None:
        """``tiers``: retry topics with their delays in seconds. ``max_destinations`` have series of their own.

        ``find_destination``: gives None for an id that has no document.
        """
        self._find_destination = find_destination
        self.tiers = tiers
        # Known label values begin at 0: Prometheus sees no increase in the first value of a series.
        self.entries: Counter[tuple[str, str]] = Counter({("delivered", ""): 0})
        self.dead_letters: Counter[str] = _zeros(get_args(DeadReason))
        self.moved = Counter({(topic, reason): 0 for topic in tiers for reason in get_args(RetryReason)})
        self.skipped: Counter[str] = _zeros(get_args(signals.SkipReason))
        self.flushes: Counter[str] = _zeros(get_args(Flush))
        self.failures: Counter[str] = _zeros(_FAILURES.values())
        self.destinations: Counter[tuple[str, str]] = Counter()
        self.own_fault_secs = 0.0
        self.cursors_opened = 0
        self.cursors_closed: Counter[str] = _zeros(get_args(signals.CursorEnd))
        self.held = 0
        self.flooded = 0
        self.documents = {"good": 0, "bad": 0}
        self.calls = Histogram(_SECONDS)
        self.batch_entries = Histogram(_ENTRIES)
        self.batch_bytes = Histogram(_BYTES)
        self.age = Histogram(_AGES)
        bounds = _latencies(tiers.values())
        self.latency: defaultdict[Trigger, Histogram] = defaultdict(lambda: Histogram(bounds))
        self.latency["live"], self.latency["retry"] = Histogram(bounds), Histogram(bounds)
        self.late: Counter[str] = _zeros(get_args(Cause))
        self.repeats = 0
        """Delivered entries that their bus had taken before."""
        self.further_units = 0
        """Units of delivered entries beyond the first unit of each."""
        self.destination_further_units: Counter[str] = Counter()
        self._codes: set[str] = set()
        self._max_destinations = max_destinations
        self._known_destinations = set[str]()

    def __call__(self, signal: Signal) -> None:
        match signal:
            case signals.Attempted():
                self._attempted(signal)
            case signals.Skipped():
                self.skipped[signal.reason] += 1
            case signals.DeadLettered(letter):
                self.dead_letters[letter.reason] += 1
            case signals.MovedToRetry(copy, topic):
                self.moved[topic, copy.reason] += 1
                self._count_late(copy.trigger, copy.record.recorded_at_ms, copy.first_attempt_ms, copy.problem)
            case _ if (kind := _FAILURES.get(type(signal))) is not None:
                self.failures[kind] += 1
            case _:
                self._state_changed(signal)

    def _state_changed(self, signal: Signal) -> None:
        match signal:
            case signals.Backpressure(on):
                self.held += 1 if on else -1
            case signals.Flooded():
                self.flooded = 1
            case signals.CursorOpened():
                self.cursors_opened += 1
            case signals.CursorClosed():
                self.cursors_closed[signal.why] += 1
            case signals.RegistryChanged():
                self.documents = {"good": signal.good, "bad": signal.bad}
                self._forget_destinations(signal.removed)
            case _:
                pass

    def _attempted(self, signal: signals.Attempted) -> None:
        deliveries, outcomes, age, latency = signal.deliveries, signal.outcomes, self.age, self.latency
        ended_ms, delivered, size = signal.at_ms + signal.duration_secs * 1000, 0, 0
        late_before_ms = ended_ms - _LATE_MS
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            size += delivery.size
            if isinstance(outcome, Delivered):
                delivered += 1
                self.repeats += outcome.is_repeat
                age.observe_since(delivery.event.occurred_at_ms, ended_ms)
                recorded_ms = delivery.record.timestamp_ms
                if recorded_ms > 0:
                    latency[delivery.trigger].observe_since(recorded_ms, ended_ms)
                    if recorded_ms < late_before_ms:
                        self._count_late(delivery.trigger, recorded_ms, delivery.age_from_ms, delivery.problem)
            else:
                self._count_failure(type(outcome).__name__.lower(), outcome.code)
                if isinstance(outcome, Retryable) and outcome.is_our_fault:
                    self.failures[_OWN_CREDENTIALS] += 1
                    self.own_fault_secs = ended_ms / 1000
        self.calls.observe(signal.duration_secs)
        self.batch_entries.observe(len(outcomes))
        self.batch_bytes.observe(size)
        self.flushes[signal.flush] += 1
        self.entries["delivered", ""] += delivered
        if self._max_destinations:
            self._count_destination(signal.destination.id, delivered, len(outcomes) - delivered)
        if size > UNIT_BYTES:  # else no entry takes more than one
            self._count_further_units(signal)

    def _count_failure(self, outcome: str, code: str) -> None:
        if code not in self._codes:
            if len(self._codes) >= _MAX_CODES:
                code = "other"
            self._codes.add(code)
        self.entries[outcome, code] += 1

    def _count_late(
        self, trigger: Trigger, recorded_ms: int | None, age_from_ms: int | None, problem: Problem | None
    ) -> None:
        """Count a first-time delivery that took too long or left for a retry topic, by the cause of its delay."""
        if trigger == "live" and recorded_ms is not None:
            self.late[cause_of_delay(recorded_ms, age_from_ms, problem)] += 1

    def _count_further_units(self, signal: signals.Attempted) -> None:
        pairs = zip(signal.deliveries, signal.outcomes, strict=True)
        further = sum(units_of(delivery.size) - 1 for delivery, outcome in pairs if isinstance(outcome, Delivered))
        self.further_units += further
        self.destination_further_units[self.label_of(signal.destination.id)] += further

    def _count_destination(self, destination_id: str, delivered: int, failed: int) -> None:
        destination_id = self.label_of(destination_id)
        self.destinations[destination_id, "delivered"] += delivered
        self.destinations[destination_id, "failed"] += failed

    def label_of(self, destination_id: str) -> str:
        """The destination's value of the label ``destination``. The first destinations that are met have their own."""
        if destination_id not in self._known_destinations:
            is_full = len(self._known_destinations) >= self._max_destinations
            # A call may end after its destination was deleted, and its series with it.
            if is_full or self._find_destination(destination_id) is None:
                return OTHERS
            self._known_destinations.add(destination_id)
        return destination_id

    def _forget_destinations(self, removed: Iterable[str]) -> None:
        """End the series of these destinations, which makes room for others."""
        for destination_id in removed:
            self._known_destinations.discard(destination_id)
            self.destination_further_units.pop(destination_id, None)
            for outcome in ("delivered", "failed"):
                self.destinations.pop((destination_id, outcome), None)


def _latencies(delays: Iterable[float]) -> Sequence[float]:
    """Bounds for latencies, from which the deliveries of each retry topic can be read."""
    return sorted({*_LATENCIES, *(float(delay) + more for delay in delays for more in (0, _TIER_SECS))})


def _zeros(names: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(names, 0))
