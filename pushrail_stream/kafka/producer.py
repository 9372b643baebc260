"""The producers: one for records that must not be lost, one for the attempts log that must not hold anybody up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports import Failed, PublishError

_POLL_SECS: Final = 0.1
_FLUSH_SECS: Final = 10.0


@final
class KafkaPublisher:
    """Implements `ports.Publisher`: idempotent, ``acks=all``, done on the broker's acknowledgement."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions) -> AsyncIterator[Self]:
        """A publisher whose reports are fetched by a thread of its own until the block ends."""
        producer = Producer(options.producer() | {"error_cb": lambda _error: None})
        async with _polling(producer):
            yield cls(producer)

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
class KafkaLog:
    """Fire and forget: appends to a topic; what cannot be written is counted in ``lost`` and never waited for."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.lost = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions, topic: str) -> AsyncIterator[Self]:
        """A log with a producer of its own, so that it never stands in a dead letter's way."""
        log: Self

        def report(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                log.lost += 1

        producer = Producer(
            options.producer()
            | {
                "error_cb": lambda _error: None,
                "linger.ms": 200,
                "queue.buffering.max.kbytes": 4_096,
                "delivery.report.only.error": True,
                "on_delivery": report,
            }
        )
        log = cls(producer, topic)
        async with _polling(producer):
            yield log

    def append(self, key: bytes, value: bytes) -> None:
        """Write one record when it can be written."""
        try:
            self._producer.produce(self._topic, value, key)
        except (BufferError, KafkaException):
            self.lost += 1


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
