"""The producers: one for records that must not be lost, one for the attempts log that must not hold anybody up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.statistics import INTERVAL_MS, StatisticsKeeper
from pushrail_stream.ports import ClientStatistics, Failed, Outgoing, Position, PublishError

_POLL_SECS: Final = 0.1
_FLUSH_SECS: Final = 10.0
_LOG_TIMEOUT_MS: Final = 600_000
"""How long the attempts log keeps a record that Kafka does not take: an outage within it only fills the buffer."""


@final
class KafkaPublisher:
    """Implements `ports.Publisher`: idempotent, ``acks=all``, done on the broker's acknowledgement."""

    def __init__(self, producer: Producer, keeper: StatisticsKeeper) -> None:
        self._producer = producer
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()

    @property
    def statistics(self) -> ClientStatistics:
        """The newest."""
        return self._keeper.newest

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions) -> AsyncIterator[Self]:
        """A publisher whose reports are fetched by a thread of its own until the block ends."""
        keeper = StatisticsKeeper()
        producer = Producer(options.producer() | _callbacks(keeper))
        async with _polling(producer):
            yield cls(producer, keeper)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not."""
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: Message) -> None:
            self._loop.call_soon_threadsafe(_resolve, acknowledged, error)

        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise PublishError(f"{topic}: the producer's queue is full") from error
        except KafkaException as error:
            raise PublishError(f"{topic}: {error.args[0].str()}") from error
        await acknowledged


@final
class KafkaGate:
    """Implements `ports.Gate`: many records, one wait."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._fatal = list[KafkaError]()

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions, topic: str, timeout_secs: float) -> AsyncIterator[Self]:
        """A gate to one topic. What Kafka has not acknowledged after ``timeout_secs`` has failed."""
        limits = {"delivery.timeout.ms": round(timeout_secs * 1000)}
        producer = Producer(options.producer() | limits | {"error_cb": lambda _error: None})
        async with _polling(producer):
            yield cls(producer, topic)

    async def publish_all(self, records: Sequence[Outgoing]) -> Sequence[Position | str]:
        """Each record's position once Kafka has acknowledged it, or why it did not."""
        reports = _Reports(len(records), self._loop, self._fatal)
        for index, record in enumerate(records):
            try:
                self._producer.produce(
                    self._topic, record.value, record.key, headers=list(record.headers), on_delivery=reports.of(index)
                )
            except BufferError:
                reports.settle(index, "the producer's queue is full")
            except KafkaException as error:
                reports.settle(index, error.args[0].str())
        await reports.all_in
        return reports.results

    async def check(self, timeout_secs: float) -> str:
        """Why the topic cannot be written to at the moment, as far as asking tells; empty when it can.

        Raises `Failed` when the producer has met an error after which it writes nothing any more.
        """
        if self._fatal:
            raise Failed(f"the Kafka producer cannot go on: {self._fatal[0].str()}")
        try:
            found = await asyncio.to_thread(self._producer.list_topics, self._topic, timeout_secs)
        except KafkaException as error:
            return f"Kafka is out of reach: {error.args[0].str()}"
        problem = found.topics[self._topic].error
        return "" if problem is None else f"{self._topic}: {problem.str()}"

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return len(self._producer)


@final
class _Reports:
    """Delivery reports of records written together. They come in the producer's thread; one wakes the loop."""

    def __init__(self, expected: int, loop: asyncio.AbstractEventLoop, fatal: list[KafkaError]) -> None:
        """``fatal`` collects the errors after which the producer writes nothing any more."""
        self.results: list[Position | str] = [""] * expected
        self.all_in: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._fatal = fatal
        self._missing = expected
        self._lock = threading.Lock()

    def of(self, index: int) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None and error.fatal():
                self._fatal.append(error)
            self.settle(index, _position(message) if error is None else error.str())

        return report

    def settle(self, index: int, result: Position | str) -> None:
        self.results[index] = result
        with self._lock:
            self._missing -= 1
            if self._missing:
                return
        self._loop.call_soon_threadsafe(_resolve, self.all_in, None)


def _position(message: Message) -> Position:
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise TypeError("a record that was acknowledged has a position")
    return Position(partition, offset)


@final
class KafkaLog:
    """Fire and forget: appends to a topic; what cannot be written is counted in ``lost`` and never waited for."""

    def __init__(self, producer: Producer, topic: str, keeper: StatisticsKeeper) -> None:
        self._producer = producer
        self._topic = topic
        self._keeper = keeper
        # Each is counted in one thread alone.
        self._refused = 0
        self._failed = 0

    @property
    def lost(self) -> int:
        """Records that were not written; what was cut off at the end, without an answer, is among them."""
        return self._refused + self._failed

    @property
    def statistics(self) -> ClientStatistics:
        """The newest."""
        return self._keeper.newest

    @property
    def backlog(self) -> int:
        """Records that Kafka has not acknowledged."""
        return len(self._producer)

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions, topic: str) -> AsyncIterator[Self]:
        """A log with a producer of its own, so that it never stands in a dead letter's way."""
        log: Self
        keeper = StatisticsKeeper()

        def report(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                log._failed += 1

        producer = Producer(
            options.producer()
            | _callbacks(keeper)
            | {
                "linger.ms": 200,
                "delivery.timeout.ms": _LOG_TIMEOUT_MS,
                "queue.buffering.max.kbytes": 4_096,
                "delivery.report.only.error": True,
                "on_delivery": report,
            }
        )
        log = cls(producer, topic, keeper)
        try:
            async with _polling(producer):
                yield log
        finally:
            producer.purge()
            await asyncio.get_running_loop().run_in_executor(None, producer.flush, 1.0)  # counts what was purged

    def append(self, key: bytes, value: bytes) -> None:
        """Write one record when it can be written."""
        try:
            self._producer.produce(self._topic, value, key)
        except (BufferError, KafkaException):
            self._refused += 1


def _callbacks(keeper: StatisticsKeeper) -> dict[str, Any]:
    return {"error_cb": lambda _error: None, "stats_cb": keeper, "statistics.interval.ms": INTERVAL_MS}


@asynccontextmanager
async def _polling(producer: Producer) -> AsyncIterator[None]:
    """Serve a producer's delivery reports from a thread; flush at the end."""
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            producer.poll(_POLL_SECS)

    thread = threading.Thread(target=serve, name="kafka-producer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, thread.join)
        await loop.run_in_executor(None, producer.flush, _FLUSH_SECS)


def _resolve(acknowledged: asyncio.Future[None], error: KafkaError | None) -> None:
    if acknowledged.cancelled():
        return
    if error is None:
        acknowledged.set_result(None)
    elif error.fatal():
        acknowledged.set_exception(Failed(f"the Kafka producer cannot go on: {error.str()}"))
    else:
        acknowledged.set_exception(PublishError(error.str()))
