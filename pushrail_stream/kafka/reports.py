"""Delivery reports, brought from the producer's thread to the loop that waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import final

from confluent_kafka import KafkaError, Message

from pushrail_stream.errors import OperatorError
from pushrail_stream.ports.kafka import RecordMetadata, RecordTooLarge
from pushrail_stream.ports.pipeline import PublishError


@final
class Reports:
    """Delivery reports of records written together. They come in the producer's thread; one wakes the loop."""

    def __init__(self, expected: int, failure: Callable[[KafkaError], str | RecordTooLarge]) -> None:
        """``failure`` makes the result of a record that was not written."""
        self._loop = asyncio.get_running_loop()
        self.results: list[RecordMetadata | str | RecordTooLarge] = [""] * expected
        self.all_in: asyncio.Future[None] = self._loop.create_future()
        self._failure = failure
        self._missing = expected
        self._lock = threading.Lock()

    def of(self, index: int) -> Callable[[KafkaError | None, Message], None]:
        """The callback for the report of the record at ``index``."""

        def report(error: KafkaError | None, message: Message) -> None:
            self.settle(index, _position(message) if error is None else self._failure(error))

        return report

    def settle(self, index: int, result: RecordMetadata | str | RecordTooLarge) -> None:
        """The record at ``index`` has its result; may be called in any thread."""
        self.results[index] = result
        with self._lock:
            self._missing -= 1
            if self._missing:
                return
        self._loop.call_soon_threadsafe(resolve, self.all_in, None)


def resolve(acknowledged: asyncio.Future[None], failure: OperatorError | PublishError | None) -> None:
    """End a wait, unless it was cancelled."""
    if acknowledged.cancelled():
        return
    if failure is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(failure)


def _position(message: Message) -> RecordMetadata:
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise TypeError("a record that was acknowledged has a position")
    return RecordMetadata(partition, offset)
