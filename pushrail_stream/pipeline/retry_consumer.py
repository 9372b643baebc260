"""Redeliver: a retry topic's records. Each is one delivery, begun again when its tier's time has passed.

All records of a tier wait equally long, so the head of a partition is always the next due: what has come too early
waits here, unbegun, and its partition is not read on until then. It goes to its own destination only, if there still
is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, final

from pushrail_stream.core.dead_letter import DeadLetterCopy
from pushrail_stream.core.delivery import Delivery, Problem, Replay
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.entry import entry_size
from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.flood_guard import FloodGuard, customer_of
from pushrail_stream.core.headers import BadHeader, DeliveryHeaders, decode_headers, original_of
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.outcome import is_ours
from pushrail_stream.core.record import Partition, Record, TopicIdentity
from pushrail_stream.core.retry import Tier
from pushrail_stream.core.signals import RestartReason
from pushrail_stream.core.text import safe_message
from pushrail_stream.pipeline.assignment import Assignment, BufferLimits, FlowControl
from pushrail_stream.pipeline.copies import Copies
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.settlement import Settlement
from pushrail_stream.ports.pipeline import Clock, Directory, Observer

_AHEAD_SECS: Final = 1.0
"""A partition is read on so long before its head is due: the first record after a pause takes 0.7 to 1 s (facts)."""
_EARLY_RECORDS: Final = 500
_EARLY_BYTES: Final = 2 * 2**20
"""What of a partition may wait here for its time."""


class _Early(NamedTuple):
    due_at: float
    """On the loop's clock, so that setting the wall clock keeps no partition waiting."""
    record: Record
    state: DeliveryHeaders | BadHeader

    @property
    def size(self) -> int:
        return len(self.record.value or b"")


class _Queue:
    """What of a partition has come too early, in order."""

    def __init__(self) -> None:
        self.records: deque[_Early] = deque()
        self.bytes = 0

    @property
    def is_long(self) -> bool:
        return len(self.records) >= _EARLY_RECORDS or self.bytes >= _EARLY_BYTES

    def append(self, early: _Early) -> None:
        self.records.append(early)
        self.bytes += early.size

    def popleft(self) -> _Early:
        early = self.records.popleft()
        self.bytes -= early.size
        return early


@final
class RetryConsumer(Assignment):
    """The retry topics' intake."""

    def __init__(
        self,
        *,
        directory: Directory,
        dispatcher: Dispatcher,
        settlement: Settlement,
        copies: Copies,
        in_flight: InFlight,
        ledger: Ledger,
        guard: FloodGuard,
        tiers: Iterable[Tier],
        vendor: str | None,
        limits: BufferLimits,
        clock: Clock,
        observe: Observer,
    ) -> None:
        super().__init__(
            dispatcher=dispatcher, copies=copies, in_flight=in_flight, guard=guard, limits=limits, observe=observe
        )
        self._directory = directory
        self._settlement = settlement
        self._ledger = ledger
        self._tiers = {tier.topic: tier for tier in tiers}
        self._numbers = {topic: number for number, topic in enumerate(self._tiers, 1)}
        self._vendor = vendor
        self._clock = clock
        self._early: dict[Partition, _Queue] = {}

    def flow_control(self) -> FlowControl:
        """Begin what has become due; then whether to go on consuming, and which partitions not to."""
        now = self._loop.time()
        for partition, early in list(self._early.items()):
            tracker = self._trackers[partition]
            while early.records and early.records[0].due_at <= now:
                _, record, state = early.popleft()
                self._begin(record, state, tracker)
            if not early.records:
                del self._early[partition]
        return super().flow_control()

    def _take(self, record: Record, tracker: OffsetTracker) -> None:
        del tracker  # the record begins when it is due
        state = decode_headers(record.headers)
        due_ms = 0 if isinstance(state, BadHeader) else state.not_before_ms or 0
        # Nothing is due later than its tier's time from now: a clock that was wrong must not keep a partition waiting.
        longest_ms = round(self._tiers[record.topic].delay_secs * 1000)
        secs = max(0, min(due_ms - self._clock.now_ms(), longest_ms)) / 1000
        early = self._early.setdefault(Partition(record.topic, record.partition), _Queue())
        early.append(_Early(self._loop.time() + secs, record, state))

    def _ahead(self, partition: Partition) -> tuple[int, int]:
        early = self._early.get(partition)
        return (0, 0) if early is None else (len(early.records), early.bytes)

    def _not_yet(self) -> frozenset[Partition]:
        soon = self._loop.time() + _AHEAD_SECS
        return frozenset(p for p, early in self._early.items() if early.records[0].due_at > soon or early.is_long)

    def _revoke(self, partitions: Iterable[Partition], *, are_lost: bool) -> dict[Partition, OffsetTracker]:
        revoked = super()._revoke(partitions, are_lost=are_lost)
        for partition in revoked:
            self._early.pop(partition, None)
        return revoked

    def _replace(self, partition: Partition, topic: TopicIdentity | None, why: RestartReason) -> OffsetTracker:
        early = self._early.pop(partition, None)
        if early is not None:
            # Kafka may no longer have these: they begin early rather than never.
            for _, record, state in early.records:
                self._begin(record, state, self._trackers[partition])
        return super()._replace(partition, topic, why)

    def _begin(self, record: Record, state: DeliveryHeaders | BadHeader, tracker: OffsetTracker) -> None:
        pending = tracker.track(
            record.offset, len(record.value or b""), 1, record.recorded_at_ms or self._clock.now_ms()
        )
        if pending is None:
            return
        self._ledger.begin(1)
        read = _read(record, state, self._vendor)
        if isinstance(read, Undecodable):
            self._guard.count_record(customer_of(None, record.key), self._loop.time())
            now_ms = self._clock.now_ms()
            letter = DeadLetterCopy(
                record, "undecodable", 0, now_ms, read.field, safe_message(str(read)), trigger="retry"
            )  # fmt: skip
            self._copies.dead_letter(letter, None, pending, pending.settle)
            return
        original, event, state, destination_id = read
        destination = self._destination(destination_id, event)
        size = 0 if destination is None else entry_size(event, destination)
        delivery = Delivery(event, original, destination_id, size, pending, self._numbers[record.topic])
        delivery.attempts = state.attempts
        delivery.first_attempt_ms = self._first_attempt_ms(state)
        if state.replay is None:
            self._guard.count_record(event.customer_external_id, self._loop.time())
        else:
            delivery.replay = Replay(state.replay, state.replay_count or 1)
        if state.error_code is not None:
            code, message = state.error_code, state.error_message or ""
            delivery.problem = Problem(code, message, state.request_id, is_ours(code))
        if destination is None:
            self._settlement.skip(delivery, None, "deleted")
        elif not destination.enabled:
            self._settlement.skip(delivery, destination.bus_arn, "disabled")
        else:
            self._dispatcher.offer(delivery, destination)

    def _destination(self, destination_id: str, event: Event) -> Destination | None:
        """None when it is no more, also when its id has come to be another customer's."""
        destination = self._directory.get(destination_id)
        return destination if destination is not None and destination.owner == event.owner else None

    def _first_attempt_ms(self, state: DeliveryHeaders) -> int | None:
        """When its age begins. Time that it waited because of our own fault does not count.

        Never later than now: a clock that was ahead must not keep a delivery young.
        """
        first_ms, code, now_ms = state.first_attempt_at_ms, state.error_code, self._clock.now_ms()
        if first_ms is None:
            return None
        waited_ms = max(0, now_ms - state.failed_at_ms) if code is not None and is_ours(code) else 0
        return min(first_ms + waited_ms, now_ms)


def _read(
    record: Record, state: DeliveryHeaders | BadHeader, vendor: str | None
) -> tuple[Record, Event, DeliveryHeaders, str] | Undecodable:
    """The event's record as it was produced, the event, and whose delivery this is."""
    if isinstance(state, BadHeader):
        return Undecodable(state.header, state.problem)
    if state.destination is None:
        return Undecodable("pushrail-destination", "is missing")
    event = decode(record.value, record.headers, vendor)
    if isinstance(event, Undecodable):
        return event
    return original_of(record, state.origin), event, state, state.destination
