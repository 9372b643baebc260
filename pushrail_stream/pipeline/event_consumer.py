"""Consume: the spine. A record comes in, is decoded and routed, and becomes one delivery per destination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from pushrail_stream.core.dead_letter import DeadLetterCopy
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.entry import entry_size
from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.flood_guard import FloodGuard, customer_of
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import OffsetTracker, PendingRecord
from pushrail_stream.core.record import Record
from pushrail_stream.core.retry import DeadReason
from pushrail_stream.core.signals import Consumed, Skipped
from pushrail_stream.core.text import safe_message
from pushrail_stream.pipeline.assignment import Assignment, BufferLimits
from pushrail_stream.pipeline.copies import Copies
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.settlement import Settlement
from pushrail_stream.ports.pipeline import Clock, Directory, Observer


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """How records are read and what happens to events nobody wants."""

    vendor: str | None
    dead_letter_unrouted: bool


@final
class EventConsumer(Assignment):
    """The events topic's intake."""

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
        rules: IntakeRules,
        limits: BufferLimits,
        clock: Clock,
        observe: Observer,
        consumed: Observer | None = None,
    ) -> None:
        """``consumed`` is told of every event, which costs time: nobody needs to be."""
        super().__init__(
            dispatcher=dispatcher, copies=copies, in_flight=in_flight, guard=guard, limits=limits, observe=observe
        )
        self._directory = directory
        self._settlement = settlement
        self._ledger = ledger
        self._rules = rules
        self._clock = clock
        self._consumed = consumed

    def _take(self, record: Record, tracker: OffsetTracker) -> None:
        event = decode(record.value, record.headers, self._rules.vendor)
        size = len(record.value or b"")
        if isinstance(event, Undecodable):
            self._guard.count_record(customer_of(None, record.key), self._loop.time())
            pending = tracker.track(record.offset, size, 1, record.recorded_at_ms or self._clock.now_ms())
            if pending is not None:
                self._ledger.begin(1)
                self._dead_letter(record, None, pending, "undecodable", event.field, str(event))
            return
        self._guard.count_record(event.customer_external_id, self._loop.time())
        route = self._directory.route(event.vendor, event.customer_external_id)
        pending = tracker.track(record.offset, size, len(route) or 1, record.recorded_at_ms or self._clock.now_ms())
        if pending is None:
            return
        self._ledger.begin(len(route) or 1)
        if self._consumed is not None:
            now_ms = self._clock.now_ms()
            self._consumed(Consumed(event, record.origin, len(route), record.recorded_at_ms, now_ms))
        for destination in route:
            self._direct(record, event, destination, pending)
        if not route:
            self._unrouted(record, event, pending)

    def _direct(self, record: Record, event: Event, destination: Destination, pending: PendingRecord) -> None:
        """One destination of an event: to its lane, unless there is a reason not to."""
        size = entry_size(event, destination)
        delivery = Delivery(event, record, destination.id, size, pending)
        if not destination.enabled:
            self._settlement.skip(delivery, destination.bus_arn, "disabled")
        elif not destination.wants(event.event_type):
            self._settlement.skip(delivery, destination.bus_arn, "filtered")
        else:
            self._dispatcher.offer(delivery, destination)

    def _unrouted(self, record: Record, event: Event, pending: PendingRecord) -> None:
        if self._rules.dead_letter_unrouted:
            problem = f"{event.vendor} has no destination for customer {event.customer_external_id}"
            self._dead_letter(record, event, pending, "rejected", "NoDestination", problem)
        else:
            pending.settle()
            self._ledger.skip(1)
            self._observe(Skipped(event, record.origin, None, None, "no_destination", "live", self._clock.now_ms()))

    def _dead_letter(
        self, record: Record, event: Event | None, pending: PendingRecord, reason: DeadReason, code: str, message: str
    ) -> None:
        letter = DeadLetterCopy(record, reason, 0, self._clock.now_ms(), code, safe_message(message))
        self._copies.dead_letter(letter, event, pending, pending.settle)
