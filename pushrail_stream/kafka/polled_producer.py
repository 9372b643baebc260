"""A producer with a thread of its own, which brings its delivery reports to the loop that waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.statistics import INTERVAL_MS, StatisticsKeeper
from pushrail_stream.ports.kafka import ClientStatistics, RecordMetadata, RecordTooLarge
from pushrail_stream.ports.pipeline import PublishError

_POLL_SECS: Final = 0.1


@final
class PolledProducer:
    """A producer, and the thread that polls it until the end."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._keeper = StatisticsKeeper()
        self.producer = Producer({**properties, "stats_cb": self._keeper, "statistics.interval.ms": INTERVAL_MS})
        self.fatal = ""
        """The error after which the producer writes nothing any more."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)
        self._thread.start()

    @classmethod
    @asynccontextmanager
    async def open(cls, properties: Mapping[str, Any], flush_secs: float = 0.0) -> AsyncIterator[Self]:
        """Poll until the block ends; then wait up to ``flush_secs`` for records that Kafka has not acknowledged."""
        polled = cls(properties)
        try:
            yield polled
        finally:
            await asyncio.get_running_loop().run_in_executor(None, polled._end, flush_secs)

    @property
    def statistics(self) -> ClientStatistics:
        """The newest that librdkafka gave."""
        return self._keeper.newest

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return len(self.producer)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                self.producer.poll(_POLL_SECS)
            except Exception as error:  # noqa: BLE001 - if this thread ended, callers would wait without end
                self.fatal = self.fatal or (error.args[0].str() if isinstance(error, KafkaException) else repr(error))
                # Records on their way will not arrive: their reports come now, not when their time-out has passed.
                self.producer.purge()

    def _end(self, flush_secs: float) -> None:
        self._stopping.set()
        self._thread.join()
        # A fatal error that is met only now reaches no caller.
        with suppress(KafkaException):
            self.producer.flush(flush_secs)
        self.producer.purge()  # else librdkafka complains on stderr
        with suppress(KafkaException):
            self.producer.flush(1.0)  # the reports of purged records come at once


@final
class Reports:
    """Delivery reports of records written together. They come in the producer's thread; the last one wakes the loop."""

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
            self.settle(index, _metadata(message) if error is None else self._failure(error))

        return report

    def settle(self, index: int, result: RecordMetadata | str | RecordTooLarge) -> None:
        """Set the result of the record at ``index``; any thread may call it."""
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


def cannot_go_on(reason: str) -> OperatorError:
    """The error for callers of a producer that has met a fatal error."""
    return OperatorError(f"the Kafka producer cannot go on, restart this program: {reason}")


def _metadata(message: Message) -> RecordMetadata:
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise TypeError("an acknowledged record has a partition and an offset")
    return RecordMetadata(partition, offset)
