"""The event consumer: decodes and routes each event, and admits one delivery per destination."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import final

from pushrail_stream.core.cursor_state import owner_mark
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Record
from pushrail_stream.core.signals import Consumed
from pushrail_stream.core.text import safe_message
from pushrail_stream.pipeline.admission import Admission
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.settlement import Settlement

_Groups = dict[int, tuple[list[Delivery], Destination]]
"""Deliveries by the identity of their destination's value: a document may change while a poll is taken."""


@final
class EventConsumer:
    """Takes the records of the events topic."""

    def __init__(self, ports: Ports, policy: Policy, admission: Admission, settlement: Settlement) -> None:
        self._bus = ports.bus
        self._directory = ports.directory
        self._clock = ports.clock
        self._consumed = ports.consumed
        self._vendor, self._decode = policy.vendor, policy.decode
        self._dead_letter_unrouted = policy.dead_letter_unrouted
        self._admission = admission
        self._settlement = settlement
        self._loop = asyncio.get_running_loop()

    def take(self, records: Iterable[tuple[Record, OffsetTracker]]) -> None:
        """Begin the deliveries of a poll's records. Each destination gets its deliveries together."""
        now, groups = self._loop.time(), _Groups()
        for record, tracker in records:
            self._begin(record, tracker, now, groups)
        for deliveries, destination in groups.values():
            self._admission.admit(deliveries, destination)

    def _begin(self, record: Record, tracker: OffsetTracker, now: float, groups: _Groups) -> None:
        """Begin the deliveries of one record."""
        event = self._decode(record.value, record.headers, self._vendor)
        if isinstance(event, Undecodable):
            self._admission.refuse(record, event, tracker, "live")
            return
        self._admission.count(event.customer_external_id, now)
        routed = route = self._directory.route(event.vendor, event.customer_external_id)
        if tracker.cursors and route:
            route = _without_cursors(route, record.offset, event, tracker)
            if not route:
                tracker.skip(record.offset)
                self._note_consumed(record, event, len(routed))
                return
        pending = self._admission.open(record, tracker, len(route) or 1)
        if pending is None:
            return
        self._note_consumed(record, event, len(routed))
        for destination in route:
            delivery = Delivery(event, record, destination.id, self._bus.size(event, destination), pending)
            group = groups.get(id(destination))
            if group is None:
                groups[id(destination)] = [delivery], destination
            else:
                group[0].append(delivery)
        if not route:
            self._settle_unrouted(record, event, pending)

    def _note_consumed(self, record: Record, event: Event, deliveries: int) -> None:
        if self._consumed is not None:
            now_ms = self._clock.now_ms()
            self._consumed(Consumed(event, record.origin, deliveries, record.recorded_at_ms, now_ms))

    def _settle_unrouted(self, record: Record, event: Event, pending: PendingRecord) -> None:
        if self._dead_letter_unrouted:
            message = f"{event.vendor} has no destination for customer {event.customer_external_id}"
            problem = Problem("NoDestination", safe_message(message))
            self._settlement.dead_letter_record(record, event, pending, problem)
        else:
            self._settlement.skip_unrouted(record, event, pending)


def _without_cursors(
    route: Sequence[Destination], offset: int, event: Event, tracker: OffsetTracker
) -> Sequence[Destination]:
    """The destinations whose delivery of this event is not a cursor's."""
    cursors, owner = tracker.cursors, owner_mark(event.vendor, event.customer_external_id)
    return [
        destination
        for destination in route
        if (cursor := cursors.get(destination.id)) is None or not cursor.serves(owner) or not cursor.owns(offset)
    ]
