"""The producer of ingest: writes events to one topic, and gives each one's position or the reason why it has none."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Producer

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.kafka.numbers import whole
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.polling import Polling, being_polled, callbacks, cannot_go_on
from pushrail_stream.kafka.reports import Reports
from pushrail_stream.kafka.sizes import BATCH_BYTES, largest_batch, max_message_bytes
from pushrail_stream.kafka.statistics import StatisticsKeeper
from pushrail_stream.ports.kafka import ClientStatistics, ProducerRecord, RecordMetadata, RecordTooLarge

_LIMIT_SECS: Final = 60.0
"""How long the topic's limit is believed. Operators change it by hand; asking costs the brokers next to nothing."""
_NOT_WRITTEN: Final = "was not written, because another event of the request was not"


@final
class KafkaEventProducer:
    """Implements `ports.EventProducer`: many records, one wait."""

    def __init__(self, writer: _Writer, open_alone: Callable[[], Awaitable[_Writer]], limit: _Limit) -> None:
        """``open_alone``: opens a writer that puts no two records in one batch."""
        self._writer = writer
        self._open_alone = open_alone
        self._alone: _Writer | None = None
        self._limit = limit

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions, topic: str, timeout_secs: float) -> AsyncIterator[Self]:
        """A producer to one topic. A record that Kafka has not acknowledged after ``timeout_secs`` has failed."""
        properties = options.event_producer(timeout_secs)
        limit = _Limit(options, topic)
        await limit.ask()
        together: dict[str, Any] = {}
        if limit.bytes is not None:
            # Kafka refuses every record of a batch that is larger than the topic takes.
            together["batch.size"] = min(whole(properties.get("batch.size")) or BATCH_BYTES, limit.bytes)
        async with AsyncExitStack() as world:

            def open_alone() -> Awaitable[_Writer]:
                alone = {"batch.num.messages": 1, "linger.ms": 0}
                return world.enter_async_context(_Writer.open(properties | alone, topic))

            yield cls(await world.enter_async_context(_Writer.open(properties | together, topic)), open_alone, limit)

    async def publish_all(self, records: Sequence[ProducerRecord]) -> Sequence[RecordMetadata | str | RecordTooLarge]:
        """Each record's position once Kafka has acknowledged it, or why it did not.

        Kafka counts compressed bytes, so only Kafka can tell whether a record fits that exceeds the limit before
        compression. Such a record goes alone, by another producer: its refusal holds up no other record.
        """
        limit = self._limit.bytes
        if limit is None:
            return await self._writer.write(records)
        doubtful = {index for index, record in enumerate(records) if largest_batch(record) > limit}
        if not doubtful:
            return await self._writer.write(records)
        results: list[RecordMetadata | str | RecordTooLarge] = [_NOT_WRITTEN] * len(records)
        for index in sorted(doubtful, key=lambda index: -len(records[index].value)):
            if self._alone is None:
                self._alone = await self._open_alone()
            [result] = await self._alone.write([records[index]], limit)
            results[index] = result
            if not isinstance(result, RecordMetadata):
                return results
        others = [index for index in range(len(records)) if index not in doubtful]
        for index, result in zip(others, await self._writer.write([records[i] for i in others]), strict=True):
            results[index] = result
        return results

    async def check(self, timeout_secs: float) -> str:
        """Why the topic cannot be written to at the moment, as far as asking tells; empty when it can.

        Raises `OperatorError` when a producer has met an error after which it writes nothing any more.
        """
        for writer in (self._writer, self._alone):
            if writer is not None and writer.fatal:
                raise cannot_go_on(writer.fatal)
        problem = await self._writer.check(timeout_secs)
        if not problem:
            await self._limit.ask()
        return problem

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self._writer.waiting + (0 if self._alone is None else self._alone.waiting)

    @property
    def statistics(self) -> ClientStatistics:
        """The newest statistics of the shared producer."""
        return self._writer.keeper.newest


class _Limit:
    """The topic's ``max.message.bytes``, asked for now and then: it may be changed at any time."""

    def __init__(self, options: KafkaOptions, topic: str) -> None:
        self.bytes: int | None = None
        """The limit; None while it is not known."""
        self._options = options
        self._topic = topic
        self._next_at = float("-inf")

    async def ask(self) -> None:
        """Ask for the limit, unless that was done lately."""
        if time.monotonic() >= self._next_at:
            told = await in_daemon_thread(max_message_bytes, self._options, self._topic)
            self.bytes = self.bytes if told is None else told
            self._next_at = time.monotonic() + _LIMIT_SECS


class _Writer:
    """A producer for one topic, which reports each record."""

    def __init__(self, producer: Producer, topic: str, polling: Polling, keeper: StatisticsKeeper) -> None:
        self.keeper = keeper
        self._producer = producer
        self._topic = topic
        self._polling = polling

    @classmethod
    @asynccontextmanager
    async def open(cls, properties: Mapping[str, Any], topic: str) -> AsyncIterator[Self]:
        keeper = StatisticsKeeper()
        producer = Producer({**properties, **callbacks(keeper)})
        async with being_polled(producer) as served:
            yield cls(producer, topic, served, keeper)

    @property
    def fatal(self) -> str:
        return self._polling.fatal

    @property
    def waiting(self) -> int:
        return len(self._producer)

    async def write(
        self, records: Sequence[ProducerRecord], limit: int | None = None
    ) -> list[RecordMetadata | str | RecordTooLarge]:
        """``limit``: the topic's limit, when each record goes alone and a refusal concerns that record."""
        if not records:
            return []

        def failure(error: KafkaError) -> str | RecordTooLarge:
            if limit is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                return RecordTooLarge(limit)
            return error.str()

        reports = Reports(len(records), failure)
        for index, record in enumerate(records):
            try:
                self._producer.produce(
                    self._topic, record.value, record.key, headers=list(record.headers), on_delivery=reports.of(index)
                )
            except BufferError:
                reports.settle(index, "the producer's queue is full")
            except KafkaException as error:
                reports.settle(index, failure(error.args[0]))
        await reports.all_in
        return reports.results

    async def check(self, timeout_secs: float) -> str:
        """Why the topic cannot be written to at the moment, as far as asking tells; empty when it can."""
        try:
            found = await in_daemon_thread(self._producer.list_topics, self._topic, timeout_secs)
        except KafkaException as error:
            return f"Kafka is out of reach: {error.args[0].str()}"
        problem = found.topics[self._topic].error
        return "" if problem is None else f"{self._topic}: {problem.str()}"
