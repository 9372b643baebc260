"""Copies on their way to a retry topic or the DLQ: written until Kafka acknowledges them, and only then settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, final

from pushrail_stream.core.dead_letter import DeadLetterCopy
from pushrail_stream.core.event import Event
from pushrail_stream.core.flood_guard import FloodGuard, customer_of
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import PendingRecord
from pushrail_stream.core.retry import RetryPolicy, backoff
from pushrail_stream.core.retry_copy import RetryCopy
from pushrail_stream.core.signals import CopyFailed, DeadLettered, Flooded, MovedToRetry
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.ports.pipeline import Jitter, Observer, Publisher, PublishError

_POLICY: Final = RetryPolicy(backoff_base_secs=1.0, backoff_cap_secs=10.0)
"""Pause between tries to write: Kafka's client has retried on its own for half a minute before it gives up."""


@final
class Copies:
    """Writes copies. While Kafka refuses one, its delivery stays open and its offset uncommitted."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        dlq: str,
        in_flight: InFlight,
        ledger: Ledger,
        guard: FloodGuard,
        jitter: Jitter,
        observe: Observer,
    ) -> None:
        self._publisher = publisher
        self._dlq = dlq
        self._in_flight = in_flight
        self._ledger = ledger
        self._guard = guard
        self._kept: list[PendingRecord] = []
        self._loop = asyncio.get_running_loop()
        self._jitter = jitter
        self._observe = observe

    def dead_letter(
        self, letter: DeadLetterCopy, event: Event | None, pending: PendingRecord, settle: Callable[[], None]
    ) -> None:
        """Write a dead letter and call ``settle`` once Kafka has it. Returns at once.

        In a flood what its producer or we are to blame for is not written: it stays open, and uncommitted in Kafka.
        """
        if letter.reason in {"undecodable", "rejected"} and self._is_flood(letter, event, pending):
            if pending.is_revoked:
                self._ledger.drop(1)
            else:
                self._kept.append(pending)
            return
        self._in_flight.start(self._dead_letter(letter, event, pending, settle), lambda: pending.is_revoked)

    def retry_later(self, copy: RetryCopy, pending: PendingRecord, settle: Callable[[], None]) -> None:
        """Write a retry copy and call ``settle`` once Kafka has it. Returns at once."""
        self._in_flight.start(self._retry_later(copy, pending, settle), lambda: pending.is_revoked)

    def drop_revoked(self) -> int:
        """Leave what was kept back of a partition that is being given back to its next owner; how many there were."""
        staying = [pending for pending in self._kept if not pending.is_revoked]
        dropped = len(self._kept) - len(staying)
        self._kept = staying
        self._ledger.drop(dropped)
        return dropped

    def _is_flood(self, letter: DeadLetterCopy, event: Event | None, pending: PendingRecord) -> bool:
        """Whether there is a flood, now that this record is dead. What somebody sends again was counted before."""
        guard = self._guard
        if letter.replay is None and not pending.is_dead_lettered and not guard.tripped:
            pending.is_dead_lettered = True
            if guard.count_dead_letter(customer_of(event, letter.record.key), self._loop.time()):
                self._observe(Flooded(guard.report()))
        return guard.tripped

    async def _dead_letter(
        self, letter: DeadLetterCopy, event: Event | None, pending: PendingRecord, settle: Callable[[], None]
    ) -> None:
        if await self._write(self._dlq, letter, pending):
            settle()
            self._ledger.dead_letter(1)
            self._observe(DeadLettered(letter, event))

    async def _retry_later(self, copy: RetryCopy, pending: PendingRecord, settle: Callable[[], None]) -> None:
        if await self._write(copy.tier.topic, copy, pending):
            settle()
            self._ledger.move(1)
            self._observe(MovedToRetry(copy))

    async def _write(self, topic: str, copy: DeadLetterCopy | RetryCopy, pending: PendingRecord) -> bool:
        """Whether Kafka has it; if not, its partition was given back and the next owner begins the delivery again."""
        record, headers, failures = copy.record, copy.headers(), 0
        while True:
            try:
                await self._publisher.publish(topic, record.key, record.value, headers)
            except PublishError as error:
                failures += 1
                delay = backoff(failures, 0.5 + self._jitter() / 2, _POLICY)
                self._observe(CopyFailed(copy, str(error), delay))
                if pending.is_revoked:
                    self._ledger.drop(1)
                    return False
                await asyncio.sleep(delay)
            else:
                return True
