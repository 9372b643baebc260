"""Admission: the way of a record into the pipeline, for new events and for retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.delivery import Delivery, Problem, Trigger
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.core.flood_guard import FloodGuard, customer_of
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Record
from pushrail_stream.core.signals import SkipReason
from pushrail_stream.core.text import safe_message
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.settlement import Settlement
from pushrail_stream.ports.pipeline import Clock


@final
class Admission:
    """Opens records and admits their deliveries. The flood guard counts every record here, and nowhere else."""

    def __init__(
        self, dispatcher: Dispatcher, settlement: Settlement, ledger: Ledger, guard: FloodGuard, clock: Clock
    ) -> None:
        self._dispatcher = dispatcher
        self._settlement = settlement
        self._ledger = ledger
        self._guard = guard
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def count(self, customer: str | None, now: float) -> None:
        """Count a record of this customer. A replayed record was counted when it was new."""
        self._guard.count_record(customer, now)

    def open_ahead(self, record: Record, tracker: OffsetTracker) -> PendingRecord | None:
        """As `open`, of a record that begins ahead of its turn; None also when it has begun."""
        recorded_at_ms = record.recorded_at_ms or self._clock.now_ms()
        pending = tracker.track_ahead(record.offset, len(record.value or b""), recorded_at_ms)
        if pending is not None:
            self._ledger.begun += 1
        return pending

    def open(self, record: Record, tracker: OffsetTracker, deliveries: int = 1) -> PendingRecord | None:
        """Track a record with this number of deliveries; None when an earlier owner has settled it."""
        recorded_at_ms = record.recorded_at_ms or self._clock.now_ms()
        pending = tracker.track(record.offset, len(record.value or b""), deliveries, recorded_at_ms)
        if pending is not None:
            self._ledger.begun += deliveries
        return pending

    def open_on_cursor(self, record: Record, event: Event, cursor: Cursor) -> PendingRecord | None:
        """As `open`, of a record that is read for a cursor; None also when the cursor has begun it already."""
        is_new = record.offset >= cursor.next
        pending = self._begin(record, cursor)
        if pending is not None and is_new:
            self.count(event.customer_external_id, self._loop.time())
        return pending

    def refuse_on_cursor(self, record: Record, why: Undecodable, cursor: Cursor) -> None:
        """As `refuse`, of a record that a cursor has named."""
        pending = self._begin(record, cursor)
        if pending is not None:
            problem = Problem(why.field, safe_message(str(why)))
            self._settlement.dead_letter_record(record, None, pending, problem)

    def admit_late(self, delivery: Delivery, destination: Destination, *, is_expired: bool, stays: bool) -> None:
        """Queue a cursor's delivery, unless it is too old for a call, or Kafka may soon remove its record."""
        if destination.closed_as or not destination.wants(delivery.event) or (stays and not is_expired):
            self.admit([delivery], destination)
        elif is_expired:
            self._settlement.expire(delivery, destination.bus.arn)
        else:
            self._settlement.keep(delivery)

    def admit(self, deliveries: Sequence[Delivery], destination: Destination | None) -> None:
        """Queue deliveries on their destination's lane, or settle them unsent. No ``destination``: it was deleted."""
        if destination is None:
            self._skip(deliveries, None, "deleted")
        elif (reason := destination.closed_as) is not None:
            self._skip(deliveries, destination.bus.arn, reason)
        elif destination.wants_all:
            self._dispatcher.offer(deliveries, destination)
        else:
            wanted, unwanted = list[Delivery](), list[Delivery]()
            for delivery in deliveries:
                is_wanted = delivery.tier > 0 or destination.wants(delivery.event)
                (wanted if is_wanted else unwanted).append(delivery)
            self._skip(unwanted, destination.bus.arn, "filtered")
            self._dispatcher.offer(wanted, destination)

    def refuse(self, record: Record, why: Undecodable, tracker: OffsetTracker, trigger: Trigger) -> None:
        """Make a dead letter of a record that cannot be decoded. Only its key tells the customer."""
        self.count(customer_of(None, record.key), self._loop.time())
        pending = self.open(record, tracker)
        if pending is not None:
            problem = Problem(why.field, safe_message(str(why)))
            self._settlement.dead_letter_record(record, None, pending, problem, trigger)

    def _skip(self, deliveries: Iterable[Delivery], bus: str | None, reason: SkipReason) -> None:
        for delivery in deliveries:
            self._settlement.skip(delivery, bus, reason)

    def _begin(self, record: Record, cursor: Cursor) -> PendingRecord | None:
        recorded_at_ms = record.recorded_at_ms or self._clock.now_ms()
        pending = cursor.begin(record.offset, len(record.value or b""), recorded_at_ms)
        if pending is not None:
            self._ledger.begun += 1
        return pending
