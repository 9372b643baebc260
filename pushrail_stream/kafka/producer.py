"""The producers: one for records that must not be lost, one for the attempts log that must not hold anybody up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.statistics import INTERVAL_MS, StatisticsKeeper
from pushrail_stream.ports import ClientStatistics, Failed, Outgoing, Position, PublishError

_POLL_SECS: Final = 0.1
FLUSH_SECS: Final = 5.0
"""How long a log that ends waits for what it was given last. Of other records somebody awaits each, or gave it up."""


@final
class KafkaPublisher:
    """Implements `ports.Publisher`: idempotent, ``acks=all``, done on the broker's acknowledgement."""

    def __init__(self, producer: Producer, polling: _Polling, keeper: StatisticsKeeper) -> None:
        self._producer = producer
        self._polling = polling
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
        async with _polling(producer) as polling:
            yield cls(producer, polling, keeper)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not.

        Raises `Failed` when the producer has met an error after which it writes nothing any more.
        """
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: Message) -> None:
            failure = None if error is None else self._failure(topic, error)
            self._loop.call_soon_threadsafe(_resolve, acknowledged, failure)

        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise PublishError(f"{topic}: the producer's queue is full") from error
        except KafkaException as error:
            raise self._failure(topic, error.args[0]) from error
        await acknowledged

    def _failure(self, topic: str, error: KafkaError) -> Failed | PublishError:
        if self._polling.fatal or error.code() == KafkaError._FATAL:  # noqa: SLF001 - librdkafka's own name
            return _cannot_go_on(self._polling.fatal or error.str())
        advice = f"; raise max.message.bytes of {topic}" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else ""
        return PublishError(f"{topic}: {error.str()}{advice}")


@final
class KafkaGate:
    """Implements `ports.Gate`: many records, one wait."""

    def __init__(self, producer: Producer, polling: _Polling, topic: str, keeper: StatisticsKeeper) -> None:
        self._producer = producer
        self._polling = polling
        self._topic = topic
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions, topic: str, timeout_secs: float) -> AsyncIterator[Self]:
        """A gate to one topic. What Kafka has not acknowledged after ``timeout_secs`` has failed."""
        keeper = StatisticsKeeper()
        producer = Producer(options.gate(timeout_secs) | _callbacks(keeper))
        async with _polling(producer) as polling:
            yield cls(producer, polling, topic, keeper)

    async def publish_all(self, records: Sequence[Outgoing]) -> Sequence[Position | str]:
        """Each record's position once Kafka has acknowledged it, or why it did not."""
        reports = _Reports(len(records), self._loop)
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
        if self._polling.fatal:
            raise _cannot_go_on(self._polling.fatal)
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

    @property
    def statistics(self) -> ClientStatistics:
        """The newest."""
        return self._keeper.newest


@final
class _Reports:
    """Delivery reports of records written together. They come in the producer's thread; one wakes the loop."""

    def __init__(self, expected: int, loop: asyncio.AbstractEventLoop) -> None:
        self.results: list[Position | str] = [""] * expected
        self.all_in: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._missing = expected
        self._lock = threading.Lock()

    def of(self, index: int) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
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

        producer = Producer(options.log() | _callbacks(keeper) | {"on_delivery": report})
        log = cls(producer, topic, keeper)
        async with _polling(producer, FLUSH_SECS):
            yield log

    def append(self, key: bytes, value: bytes) -> None:
        """Write one record when it can be written."""
        try:
            self._producer.produce(self._topic, value, key)
        except (BufferError, KafkaException):
            self._refused += 1


def _callbacks(keeper: StatisticsKeeper) -> dict[str, Any]:
    return {"error_cb": lambda _error: None, "stats_cb": keeper, "statistics.interval.ms": INTERVAL_MS}


@final
class _Polling:
    """Serves a producer's delivery reports, in a thread."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.fatal = ""
        """The error after which the producer writes nothing any more."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(_POLL_SECS)
            except Exception as error:  # noqa: BLE001 - if this thread ended, whoever waits would wait for ever
                self.fatal = self.fatal or (error.args[0].str() if isinstance(error, KafkaException) else repr(error))
                # What is still on its way will not arrive: its reports come now, not when their time-out has passed.
                self._producer.purge()

    def end(self, flush_secs: float) -> None:
        """Stop polling, wait so long for what Kafka has not acknowledged, and give the rest up."""
        self._stopping.set()
        self._thread.join()
        # A fatal error that is met only now: there is nobody left to tell.
        with suppress(KafkaException):
            self._producer.flush(flush_secs)
        self._producer.purge()  # else librdkafka complains on stderr, in words of its own
        with suppress(KafkaException):
            self._producer.flush(1.0)  # at once: the reports of what was given up


@asynccontextmanager
async def _polling(producer: Producer, flush_secs: float = 0.0) -> AsyncIterator[_Polling]:
    """Serve a producer's delivery reports until the block ends; then wait so long for what is left, and give it up."""
    polling = _Polling(producer)
    try:
        yield polling
    finally:
        await asyncio.get_running_loop().run_in_executor(None, polling.end, flush_secs)


def _cannot_go_on(reason: str) -> Failed:
    return Failed(f"the Kafka producer cannot go on, start it anew: {reason}")


def _resolve(acknowledged: asyncio.Future[None], failure: Failed | PublishError | None) -> None:
    if acknowledged.cancelled():
        return
    if failure is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(failure)
