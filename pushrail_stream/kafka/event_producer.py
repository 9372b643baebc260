"""The producer of ingest: it writes events to one topic, and says where Kafka put each, or why it did not.

Kafka compares a whole batch, compressed as it comes, with the topic's ``max.message.bytes``; where the topic has a
``compression.type`` of its own, also as it is stored. It refuses every record of a batch that is too large.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self, final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.librdkafka import parse_number
from pushrail_stream.kafka.polled_producer import PolledProducer, Reports, cannot_go_on
from pushrail_stream.ports.kafka import ClientStatistics, ProducerRecord, RecordMetadata, RecordTooLarge
from pushrail_stream.settings.model import KafkaSettings

BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of ``batch.size``: bytes of a batch of several records, before compression."""
_LIMIT_SECS: Final = 60.0
"""Time after which the topic's limit is read again. Operators change it by hand; reading it costs next to nothing."""
_ASK_SECS: Final = 2.0
"""Longest wait for the limit. A broker in reach takes milliseconds; librdkafka's built-in cluster never answers."""
_BATCH_HEAD: Final = 61
"""Bytes of a batch of format 2 before its records."""
_RECORD_HEAD: Final = 36
"""Most bytes of a record besides key, value and headers: length, attributes, deltas of time and offset, lengths of key
and value, and the number of headers."""
_HEADER_HEAD: Final = 10
"""Most bytes of a header besides name and value: their lengths."""
_NOT_WRITTEN: Final = "was not written, because another event of the request was not"
_Result = RecordMetadata | str | RecordTooLarge


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
    async def open(cls, kafka: KafkaSettings, topic: str, timeout_secs: float) -> AsyncIterator[Self]:
        """A producer for one topic. A record that Kafka has not acknowledged after ``timeout_secs`` has failed."""
        properties = client_properties.event_producer(kafka, timeout_secs)
        limit = _Limit(kafka, topic)
        await limit.refresh()
        together: dict[str, Any] = {}
        if limit.bytes is not None:
            together["batch.size"] = min(parse_number(properties.get("batch.size")) or BATCH_BYTES, limit.bytes)
        async with AsyncExitStack() as world:

            async def open_writer(properties: dict[str, Any]) -> _Writer:
                return _Writer(await world.enter_async_context(PolledProducer.open(properties)), topic)

            alone = properties | {"batch.num.messages": 1, "linger.ms": 0}
            yield cls(await open_writer(properties | together), lambda: open_writer(alone), limit)

    async def publish_all(self, records: Sequence[ProducerRecord]) -> Sequence[_Result]:
        """Where Kafka put each record once it has acknowledged it, or why it did not.

        Kafka counts compressed bytes, so only Kafka can tell whether a record fits that exceeds the limit before
        compression. Such a record goes alone, by another producer: its refusal holds up no other record.
        """
        limit = self._limit.bytes
        doubtful = set() if limit is None else {i for i, record in enumerate(records) if largest_batch(record) > limit}
        if not doubtful:
            return await self._writer.write(records)
        results: list[_Result] = [_NOT_WRITTEN] * len(records)
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
            if writer is not None and writer.polled.fatal:
                raise cannot_go_on(writer.polled.fatal)
        problem = await self._writer.check(timeout_secs)
        if not problem:
            await self._limit.refresh()
        return problem

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self._writer.polled.waiting + (0 if self._alone is None else self._alone.polled.waiting)

    @property
    def statistics(self) -> ClientStatistics:
        """The newest statistics of the shared producer."""
        return self._writer.polled.statistics


class _Limit:
    """The topic's ``max.message.bytes``, read now and then: it may be changed at any time."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self.bytes: int | None = None
        """The limit; None while it is not known."""
        self._kafka = kafka
        self._topic = topic
        self._next_at = float("-inf")

    async def refresh(self) -> None:
        """Read the limit, unless that was done lately."""
        if time.monotonic() >= self._next_at:
            found = await in_daemon_thread(max_message_bytes, self._kafka, self._topic)
            self.bytes = self.bytes if found is None else found
            self._next_at = time.monotonic() + _LIMIT_SECS


class _Writer:
    """A producer for one topic, which reports each record."""

    def __init__(self, polled: PolledProducer, topic: str) -> None:
        self.polled = polled
        self._producer = polled.producer
        self._topic = topic

    async def write(self, records: Sequence[ProducerRecord], limit: int | None = None) -> list[_Result]:
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


def max_message_bytes(kafka: KafkaSettings, topic: str) -> int | None:
    """The topic's ``max.message.bytes``; None if Kafka does not tell it to this user. Blocks for seconds at most."""
    client = AdminClient(client_properties.admin(kafka))
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        entries = client.describe_configs([resource], request_timeout=_ASK_SECS)[resource].result()
        return int(entries["max.message.bytes"].value)
    except (KafkaException, LookupError, ValueError, TypeError):
        return None


def largest_batch(record: ProducerRecord) -> int:
    """Upper bound of the bytes of an uncompressed batch that holds only this record."""
    headers = sum(_HEADER_HEAD + len(name.encode()) + len(value or b"") for name, value in record.headers)
    return _BATCH_HEAD + _RECORD_HEAD + len(record.key) + len(record.value) + headers
