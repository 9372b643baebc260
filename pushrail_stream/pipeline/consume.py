"""Consume: the spine. A record comes in, is decoded and routed, and becomes one delivery per destination.

Nothing here waits: a lane never blocks the consumer. What the worker may hold is bounded, and beyond it the answer to
the consumer is to hold back (`Directions`). What may be committed is what the trackers have released, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from pushrail_stream.core.dead_letter import DeadLetter
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.entry import entry_size
from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import Committable, OffsetTracker, Ticket
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.core.retry import DeadReason
from pushrail_stream.core.signals import Held, PartitionsAssigned, PartitionsRevoked, Skipped, SkipReason
from pushrail_stream.core.text import safe_message
from pushrail_stream.pipeline.dead_letters import DeadLetters
from pushrail_stream.pipeline.deliver import Deliver
from pushrail_stream.pipeline.under_way import UnderWay
from pushrail_stream.ports import Clock, Directory, Observer


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """How much a worker may hold unsettled, and how far a partition may run ahead of its committable offset."""

    max_events: int = 20_000
    max_bytes: int = 128 * 2**20
    partition_max_offsets: int = 10_000
    partition_max_bytes: int = 16 * 2**20
    resume_share: float = 0.8
    """What was held back goes on when it has fallen to this share: pausing and resuming throws fetched records away."""


class Directions(NamedTuple):
    """What the consumer is to do next: ``hold`` everything back, or only the partitions in ``full``."""

    hold: bool
    full: frozenset[Partition]


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """How records are read and what happens to events nobody wants."""

    vendor: str | None
    bury_unrouted: bool
    max_entry_bytes: int


@final
class Consume:
    """Takes records, gives back what may be committed. Lives on the event loop."""

    def __init__(
        self,
        *,
        directory: Directory,
        deliver: Deliver,
        dead_letters: DeadLetters,
        under_way: UnderWay,
        ledger: Ledger,
        rules: IntakeRules,
        limits: HoldLimits,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self._directory = directory
        self._deliver = deliver
        self._dead_letters = dead_letters
        self._under_way = under_way
        self._ledger = ledger
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._observe = observe
        self._trackers: dict[Partition, OffsetTracker] = {}
        self._committed: dict[Partition, Committable] = {}
        self._holding = False
        self._full = frozenset[Partition]()

    def assigned(self, committed: Mapping[Partition, Committable | None]) -> None:
        """The group gave us these partitions; the values are what it had committed."""
        for partition, start in committed.items():
            self._trackers[partition] = OffsetTracker(start)
            if start is not None:
                self._committed[partition] = start
        starts = tuple((p, None if start is None else start.offset) for p, start in committed.items())
        self._observe(PartitionsAssigned(starts))

    async def revoked(
        self, partitions: Iterable[Partition], *, deadline_secs: float
    ) -> Sequence[tuple[Partition, Committable]]:
        """Give partitions back: drop what waits, finish what is under way, and say what to commit."""
        leaving = {p: tracker for p in partitions if (tracker := self._trackers.pop(p, None)) is not None}
        for tracker in leaving.values():
            tracker.leave()
        dropped = self._deliver.drop_leaving()
        await self._under_way.drain(deadline_secs)
        if leaving:
            self._observe(PartitionsRevoked(tuple(leaving), lost=False, dropped=dropped))
        return self._news(leaving, forget=True)

    def lost(self, partitions: Iterable[Partition]) -> None:
        """Partitions were taken away without asking: nothing of them may be committed any more."""
        leaving = [p for p in partitions if p in self._trackers]
        for partition in leaving:
            self._trackers.pop(partition).leave()
            self._committed.pop(partition, None)
        if leaving:
            dropped = self._deliver.drop_leaving()
            self._observe(PartitionsRevoked(tuple(leaving), lost=True, dropped=dropped))

    def committable(self) -> Sequence[tuple[Partition, Committable]]:
        """What has moved since it was last committed."""
        return self._news(self._trackers, forget=False)

    def committed(self, commits: Iterable[tuple[Partition, Committable]]) -> None:
        """Kafka acknowledged these commits."""
        for partition, committable in commits:
            if partition in self._trackers:
                self._committed[partition] = committable

    def accept(self, records: Iterable[Record]) -> Directions:
        """Begin the deliveries of these records. Records of partitions we no longer own are left to their owner."""
        trackers = self._trackers
        for record in records:
            tracker = trackers.get(Partition(record.topic, record.partition))
            if tracker is not None:
                self._begin(record, tracker)
        return self.directions()

    def directions(self) -> Directions:
        """Whether to go on consuming, and which partitions not to."""
        limits, trackers = self._limits, self._trackers
        events = sum(tracker.open_records for tracker in trackers.values())
        size = sum(tracker.open_bytes for tracker in trackers.values())
        share = limits.resume_share if self._holding else 1.0
        holding = events >= limits.max_events * share or size >= limits.max_bytes * share
        if holding != self._holding:
            self._holding = holding
            self._observe(Held(holding, events, size))
        self._full = frozenset(p for p, tracker in trackers.items() if self._is_full(p, tracker))
        return Directions(holding, self._full)

    def _is_full(self, partition: Partition, tracker: OffsetTracker) -> bool:
        share = self._limits.resume_share if partition in self._full else 1.0
        return (
            tracker.window >= self._limits.partition_max_offsets * share
            or tracker.open_bytes >= self._limits.partition_max_bytes * share
        )

    def _news(
        self, trackers: Mapping[Partition, OffsetTracker], *, forget: bool
    ) -> Sequence[tuple[Partition, Committable]]:
        news = []
        for partition, tracker in trackers.items():
            last = self._committed.pop(partition, None) if forget else self._committed.get(partition)
            released = tracker.committable()
            if released is not None and released != last:
                news.append((partition, released))
        return news

    def _begin(self, record: Record, tracker: OffsetTracker) -> None:
        event = decode(record.value, record.headers, self._rules.vendor)
        size = len(record.value or b"")
        if isinstance(event, Undecodable):
            ticket = tracker.begin(record.offset, size, 1)
            if ticket is not None:
                self._ledger.begin(1)
                self._bury(record, None, ticket, "undecodable", event.field, str(event))
            return
        route = self._directory.route(event.vendor, event.customer_external_id)
        ticket = tracker.begin(record.offset, size, len(route) or 1)
        if ticket is None:
            return
        self._ledger.begin(len(route) or 1)
        for destination in route:
            self._direct(record, event, destination, ticket)
        if not route:
            self._unrouted(record, event, ticket)

    def _direct(self, record: Record, event: Event, destination: Destination, ticket: Ticket) -> None:
        """One destination of an event: to its lane, unless there is a reason not to."""
        size = entry_size(event, destination)
        delivery = Delivery(event, record, destination.id, size, ticket)
        if not destination.enabled:
            self._skip(record, event, ticket, destination, "disabled")
        elif not destination.wants(event.event_type):
            self._skip(record, event, ticket, destination, "filtered")
        elif size > self._rules.max_entry_bytes:
            problem = f"the entry has {size} bytes; one request holds at most {self._rules.max_entry_bytes}"
            self._deliver.bury(delivery, "oversize", "EntryTooLarge", problem, None)
        else:
            self._deliver.offer(delivery, destination)

    def _unrouted(self, record: Record, event: Event, ticket: Ticket) -> None:
        if self._rules.bury_unrouted:
            problem = f"{event.vendor} has no destination for customer {event.customer_external_id}"
            self._bury(record, event, ticket, "rejected", "NoDestination", problem)
        else:
            self._skip(record, event, ticket, None, "no_destination")

    def _skip(
        self, record: Record, event: Event, ticket: Ticket, destination: Destination | None, reason: SkipReason
    ) -> None:
        ticket.settle()
        self._ledger.skip(1)
        self._observe(Skipped(event, record.origin, destination, reason, self._clock.now_ms()))

    def _bury(
        self, record: Record, event: Event | None, ticket: Ticket, reason: DeadReason, code: str, message: str
    ) -> None:
        letter = DeadLetter(record, reason, 0, self._clock.now_ms(), code, safe_message(message))
        self._dead_letters.bury(letter, event, ticket, ticket.settle)
