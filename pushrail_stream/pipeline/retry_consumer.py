"""The retry consumer: begins each delivery of a retry topic again once its tier's delay has passed.

A delivery goes to its own destination only, if that still exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import final

from pushrail_stream.core.delivery import Delivery, Problem, Replay
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.core.headers import BadHeader, DeliveryHeaders, decode_headers, original_of
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.outcome import Retryable, is_our_delay
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.pipeline.admission import Admission
from pushrail_stream.pipeline.early_records import EarlyRecord, EarlyRecords
from pushrail_stream.pipeline.policy import Policy, Ports


@final
class RetryConsumer:
    """Takes the records of the retry topics."""

    def __init__(self, ports: Ports, policy: Policy, admission: Admission) -> None:
        self._bus = ports.bus
        self._directory = ports.directory
        self._clock = ports.clock
        self._vendor, self._decode = policy.vendor, policy.decode
        self._tiers = {tier.topic: (number, tier.delay_secs) for number, tier in enumerate(policy.retry.tiers, 1)}
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self.early = EarlyRecords(self._begin)

    def take(self, records: Iterable[tuple[Record, OffsetTracker]]) -> None:
        """Let records wait until they are due."""
        for record, tracker in records:
            self._wait(record, tracker)

    def _wait(self, record: Record, tracker: OffsetTracker) -> None:
        headers = decode_headers(record.headers)
        due_ms = 0 if isinstance(headers, BadHeader) else headers.not_before_ms or 0
        # The wait is at most the tier's delay: a clock that was wrong must not block a partition.
        _, delay_secs = self._tiers[record.topic]
        wait_ms = max(0, min(due_ms - self._clock.now_ms(), round(delay_secs * 1000)))
        due_at = self._loop.time() + wait_ms / 1000
        self.early.add(Partition(record.topic, record.partition), EarlyRecord(due_at, record, headers, tracker))

    def begin_ahead(self, record: Record, headers: DeliveryHeaders, tracker: OffsetTracker) -> bool:
        """Begin a record ahead of its turn. Returns whether it began: not when it had begun, or is no event."""
        read = self._read(record, headers)
        pending = None if isinstance(read, Undecodable) else self._admission.open_ahead(record, tracker)
        if isinstance(read, Undecodable) or pending is None:
            return False
        self._deliver(record, *read, pending)
        return True

    def _begin(self, early: EarlyRecord) -> None:
        record, tracker = early.record, early.tracker
        read = self._read(record, early.headers)
        if isinstance(read, Undecodable):
            self._admission.refuse(record, read, tracker, "retry")
            return
        event, headers, _ = read
        if headers.replay is None:
            self._admission.count(event.customer_external_id, self._loop.time())
        pending = self._admission.open(record, tracker)
        if pending is not None:
            self._deliver(record, *read, pending)

    def _deliver(
        self, record: Record, event: Event, headers: DeliveryHeaders, destination_id: str, pending: PendingRecord
    ) -> None:
        destination = self._destination(destination_id, event)
        size = 0 if destination is None else self._bus.size(event, destination)
        number, _ = self._tiers[record.topic]
        delivery = Delivery(event, original_of(record, headers.origin), destination_id, size, pending, number)
        delivery.attempts = headers.attempts
        delivery.problem = self._problem(headers)
        delivery.first_attempt_ms = self._first_attempt_ms(headers, delivery.problem)
        if headers.replay is not None:
            delivery.replay = Replay(headers.replay, headers.replay_count or 1)
        self._admission.admit([delivery], destination)

    def _read(
        self, record: Record, headers: DeliveryHeaders | BadHeader
    ) -> tuple[Event, DeliveryHeaders, str] | Undecodable:
        """The event, the state of its delivery, and its destination's id."""
        if isinstance(headers, BadHeader):
            return Undecodable(headers.header, headers.problem)
        if headers.destination is None:
            return Undecodable("pushrail-destination", "is missing")
        event = self._decode(record.value, record.headers, self._vendor)
        return event if isinstance(event, Undecodable) else (event, headers, headers.destination)

    def _destination(self, destination_id: str, event: Event) -> Destination | None:
        """The delivery's destination; None when it was deleted, or now belongs to another customer."""
        destination = self._directory.get(destination_id)
        return destination if destination is not None and destination.owner == event.owner else None

    def _problem(self, headers: DeliveryHeaders) -> Problem | None:
        """The problem of the last attempt, of which the headers have the code."""
        if headers.error_code is None:
            return None
        code, message = headers.error_code, headers.error_message or ""
        is_ours = is_our_delay(Retryable(code, message, self._bus.is_our_fault(code)))
        # The headers do not tell how many of the attempts failed so: all of them, or none.
        return Problem(code, message, headers.request_id, is_ours, headers.attempts if is_ours else 0)

    def _first_attempt_ms(self, headers: DeliveryHeaders, problem: Problem | None) -> int | None:
        """The time at which the delivery's age begins. A delay by us does not count.

        It is never in the future: a clock that was ahead must not keep a delivery young.
        """
        first_ms, now_ms = headers.first_attempt_at_ms, self._clock.now_ms()
        if first_ms is None:
            return None
        waited_ms = max(0, now_ms - headers.failed_at_ms) if problem is not None and problem.is_our_delay else 0
        return min(first_ms + waited_ms, now_ms)
