"""A scene: questions about moments of a story, for the interesting states."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar, final

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionsAssigned, PartitionsRevoked
from tests.simulation.oracle.deliveries import CopySeen, Deliveries
from tests.simulation.oracle.evidence import Call, SignalSeen, Written

_Signal = TypeVar("_Signal")
_UNANSWERED_SECS = 8.0
"""Longest time in seconds for which a call without an answer counts as in flight: the default of the longest call."""


@final
class Scene:
    """Indexes by time over the evidence of a story."""

    def __init__(self, story: Deliveries) -> None:
        self.story = story
        self.evidence = story.evidence
        self._signals: dict[type, list[SignalSeen]] = defaultdict(list)
        for seen in self.evidence.signals:
            self._signals[type(seen.signal)].append(seen)
        self._calls: dict[str, list[Call]] = defaultdict(list)
        for call in self.evidence.calls:
            self._calls[call.host].append(call)

    def signals(self, kind: type[_Signal]) -> Iterator[tuple[float, str, _Signal]]:
        """The signals of a kind, with time and host."""
        for at, host, signal in self._signals.get(kind, ()):
            if isinstance(signal, kind):
                yield at, host, signal

    def has(self, kind: type, since: float, until: float, host: str | None = None) -> bool:
        """Whether there was a signal of this kind in a period."""
        seen = self._signals.get(kind, [])
        first = bisect_left(seen, since, key=lambda one: one.at)
        last = bisect_right(seen, until, key=lambda one: one.at)
        return any(host in {None, one.host} for one in seen[first:last])

    def in_flight(self, host: str, at: float, api: str = "PutEvents") -> list[Call]:
        """The calls of a host that had no answer at this time."""
        calls = self._calls.get(host, [])
        first = bisect_left(calls, at - _UNANSWERED_SECS, key=lambda call: call.at)
        last = bisect_right(calls, at, key=lambda call: call.at)
        return [call for call in calls[first:last] if call.api == api and (call.answered_at or at + 1.0) > at]

    def disturbances(self, *kinds: str) -> Iterator[tuple[float, float, str]]:
        """The disturbances of these kinds: beginning, end and host."""
        for one in self.evidence.disturbances:
            if one.kind in kinds:
                yield one.at, one.until, one.host

    def copies(self, *, is_dead: bool = False, reason: str = "") -> list[CopySeen]:
        """The copies of one kind, of this reason if one is named."""
        return [one for one in self.story.copies if one.is_dead is is_dead and reason in {"", one.headers.reason}]

    def is_covered(self, one: Written, at: float) -> bool:
        """Whether a commit covered the record at this time."""
        return self.story.covered_at(one) <= at

    def source_of(self, copy: CopySeen) -> Written | None:
        """The event's record of a copy."""
        event = self.story.event_of_copy(copy)
        return None if event is None else event.written

    def ownerships(self) -> Iterator[tuple[Partition, str, float, float]]:
        """Each time in which a worker believed to own a partition: partition, host, beginning, end."""
        owned: dict[tuple[Partition, str], float] = {}
        ends = [(end.at, end.host) for end in self.evidence.worker_ends]
        moments: list[tuple[float, int, str, tuple[Partition, ...]]] = [(at, 1, host, ()) for at, host in ends]
        for at, host, assigned in self.signals(PartitionsAssigned):
            moments.append((at, 2, host, tuple(partition for partition, _ in assigned.partitions)))
        for at, host, revoked in self.signals(PartitionsRevoked):
            moments.append((at, 0, host, revoked.partitions))
        for at, kind, host, partitions in sorted(moments):
            if kind == 2:
                owned |= {(partition, host): at for partition in partitions}
                continue
            for partition in partitions if kind == 0 else [one for one, owner in owned if owner == host]:
                if (since := owned.pop((partition, host), None)) is not None:
                    yield partition, host, since, at
        for (partition, host), since in owned.items():
            yield partition, host, since, float("inf")
