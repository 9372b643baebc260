"""Producers of a worker: one for records that must not be lost, one for the attempts log, which delays nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Message

from pushrail_stream.core.record import Headers
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.polled_producer import PolledProducer, cannot_go_on, resolve
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import PublishError
from pushrail_stream.settings.model import KafkaSettings

FLUSH_SECS: Final = 5.0
"""Longest wait, at the end, for attempt records that Kafka has not acknowledged. No caller waits for them otherwise."""


@final
class KafkaPublisher:
    """Implements `ports.Publisher`: idempotent, ``acks=all``, done on the broker's acknowledgement."""

    def __init__(self, polled: PolledProducer) -> None:
        self._polled = polled
        self._loop = asyncio.get_running_loop()

    @property
    def statistics(self) -> ClientStatistics:
        """The newest."""
        return self._polled.statistics

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: KafkaSettings) -> AsyncIterator[Self]:
        """Ready to publish until the block ends."""
        async with PolledProducer.open(client_properties.copies_producer(kafka)) as polled:
            yield cls(polled)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not.

        Raises `OperatorError` when the producer has met an error after which it writes nothing any more.
        """
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: Message) -> None:
            failure = None if error is None else self._failure(topic, error)
            self._loop.call_soon_threadsafe(resolve, acknowledged, failure)

        try:
            self._polled.producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise PublishError(f"{topic}: the producer's queue is full") from error
        except KafkaException as error:
            raise self._failure(topic, error.args[0]) from error
        await acknowledged

    def _failure(self, topic: str, error: KafkaError) -> OperatorError | PublishError:
        if self._polled.fatal or error.code() == KafkaError._FATAL:  # noqa: SLF001 - librdkafka's own name
            return cannot_go_on(self._polled.fatal or error.str())
        advice = f"; raise max.message.bytes of {topic}" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else ""
        return PublishError(f"{topic}: {error.str()}{advice}")


@final
class KafkaLog:
    """Appends to a topic without waiting; records that cannot be written are counted in ``lost``."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        # Each is counted in one thread alone.
        self._refused = 0
        self._failed = 0
        self._polled: PolledProducer

    @property
    def lost(self) -> int:
        """Records that were not written, with those that the end cut off before their report came."""
        return self._refused + self._failed

    @property
    def statistics(self) -> ClientStatistics:
        """The newest."""
        return self._polled.statistics

    @property
    def backlog(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self._polled.waiting

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: KafkaSettings, topic: str) -> AsyncIterator[Self]:
        """A log with a producer of its own, so that it never delays a dead letter."""
        log = cls(topic)
        properties = client_properties.log_producer(kafka) | {"on_delivery": log._report}
        async with PolledProducer.open(properties, FLUSH_SECS) as log._polled:
            yield log

    def append(self, key: bytes, value: bytes) -> None:
        """Write one record when it can be written."""
        try:
            self._polled.producer.produce(self._topic, value, key)
        except (BufferError, KafkaException):
            self._refused += 1

    def _report(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed += 1
