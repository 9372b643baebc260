"""Dead letters on their way to the DLQ: written until Kafka acknowledges them, and only then settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, final

from pushrail_stream.core.dead_letter import DeadLetter
from pushrail_stream.core.event import Event
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import Ticket
from pushrail_stream.core.retry import RetryPolicy, backoff
from pushrail_stream.core.signals import DeadLettered, DeadLetterFailed
from pushrail_stream.pipeline.under_way import UnderWay
from pushrail_stream.ports import Jitter, Observer, Publisher, PublishError

_POLICY: Final = RetryPolicy(backoff_base_secs=1.0, backoff_cap_secs=10.0)
"""Pause between tries to write: Kafka's client has retried on its own for half a minute before it gives up."""


@final
class DeadLetters:
    """Writes dead letters. While Kafka refuses one, its delivery stays open and its offset uncommitted."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        topic: str,
        under_way: UnderWay,
        ledger: Ledger,
        jitter: Jitter,
        observe: Observer,
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._under_way = under_way
        self._ledger = ledger
        self._jitter = jitter
        self._observe = observe

    def bury(self, letter: DeadLetter, event: Event | None, ticket: Ticket, settle: Callable[[], None]) -> None:
        """Write ``letter`` and call ``settle`` once Kafka has it. Returns at once."""
        self._under_way.start(self._write(letter, event, ticket, settle), lambda: ticket.is_leaving)

    async def _write(self, letter: DeadLetter, event: Event | None, ticket: Ticket, settle: Callable[[], None]) -> None:
        record, failures = letter.record, 0
        while True:
            try:
                await self._publisher.publish(self._topic, record.key, record.value, letter.headers())
            except PublishError as error:
                failures += 1
                delay = backoff(failures, 0.5 + self._jitter() / 2, _POLICY)
                self._observe(DeadLetterFailed(letter, str(error), delay))
                if ticket.is_leaving:
                    self._ledger.drop(1)
                    return
                await asyncio.sleep(delay)
            else:
                break
        settle()
        self._ledger.bury(1)
        self._observe(DeadLettered(letter, event))
