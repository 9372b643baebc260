"""The producers: one for records that must not be lost, one for the attempts log that must not hold anybody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.polling import Polling, being_polled, callbacks, cannot_go_on
from pushrail_stream.kafka.reports import resolve
from pushrail_stream.kafka.statistics import StatisticsKeeper
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import PublishError

FLUSH_SECS: Final = 5.0
"""How long a log that ends waits for what it was given last. Of other records somebody awaits each, or gave it up."""


@final
class KafkaPublisher:
    """Implements `ports.Publisher`: idempotent, ``acks=all``, done on the broker's acknowledgement."""

    def __init__(self, producer: Producer, polling: Polling, keeper: StatisticsKeeper) -> None:
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
        producer = Producer(options.producer() | callbacks(keeper))
        async with being_polled(producer) as polling:
            yield cls(producer, polling, keeper)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not.

        Raises `OperatorError` when the producer has met an error after which it writes nothing any more.
        """
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: Message) -> None:
            failure = None if error is None else self._failure(topic, error)
            self._loop.call_soon_threadsafe(resolve, acknowledged, failure)

        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise PublishError(f"{topic}: the producer's queue is full") from error
        except KafkaException as error:
            raise self._failure(topic, error.args[0]) from error
        await acknowledged

    def _failure(self, topic: str, error: KafkaError) -> OperatorError | PublishError:
        if self._polling.fatal or error.code() == KafkaError._FATAL:  # noqa: SLF001 - librdkafka's own name
            return cannot_go_on(self._polling.fatal or error.str())
        advice = f"; raise max.message.bytes of {topic}" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else ""
        return PublishError(f"{topic}: {error.str()}{advice}")


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

        producer = Producer(options.log() | callbacks(keeper) | {"on_delivery": report})
        log = cls(producer, topic, keeper)
        async with being_polled(producer, FLUSH_SECS):
            yield log

    def append(self, key: bytes, value: bytes) -> None:
        """Write one record when it can be written."""
        try:
            self._producer.produce(self._topic, value, key)
        except (BufferError, KafkaException):
            self._refused += 1
