"""The producer of ingest: it writes events to one topic, and says where Kafka put each, or why it did not.

Kafka compares a whole batch, compressed as it comes, with the topic's ``max.message.bytes``; where the topic has a
``compression.type`` of its own, also as it is stored. It refuses every record of a batch that is too large.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, Self, cast, final

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.librdkafka import parse_number
from pushrail_stream.kafka.producer import PolledProducer, resolve
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
_TOO_LARGE: Final = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE).str()
_Result = RecordMetadata | str | RecordTooLarge


@final
class KafkaEventProducer:
    """Implements `ports.EventProducer`: many records, one wait."""

    def __init__(
        self,
        open_writer: Callable[[Mapping[str, int]], Awaitable[_Writer]],
        read_limit: Callable[[], int | None],
        batch_bytes: int,
    ) -> None:
        """``open_writer``: opens a writer with these properties besides. ``read_limit``: may block."""
        self._open_writer = open_writer
        self._read_limit = read_limit
        self._batch_bytes = batch_bytes
        """Most bytes of a batch of several records: below the topic's limit, where that is known."""
        self._limit: int | None = None
        """The topic's ``max.message.bytes``; None while it is not known."""
        self._limit_read_at = 0.0
        self._reading_limit = asyncio.Lock()
        self._writers: list[_Writer] = []
        self._shared: _Writer
        self._alone: _Writer | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: KafkaSettings, topic: str, timeout_secs: float) -> AsyncIterator[Self]:
        """A producer for one topic. A record that Kafka has not acknowledged after ``timeout_secs`` has failed."""
        properties = client_properties.event_producer(kafka, timeout_secs)
        async with AsyncExitStack() as writers:

            async def open_writer(more: Mapping[str, int]) -> _Writer:
                return await writers.enter_async_context(_Writer({**properties, **more}, topic))

            batch_bytes = parse_number(properties.get("batch.size")) or BATCH_BYTES
            producer = cls(open_writer, partial(max_message_bytes, kafka, topic), batch_bytes)
            await producer._open_shared()
            await producer._renew_limit(0.0)
            yield producer

    async def publish_all(self, records: Sequence[ProducerRecord]) -> Sequence[_Result]:
        """As `EventProducer.publish_all`.

        Kafka refuses a whole batch for its size only where the limit was not known, or has become smaller. The limit
        is then read, and the refused records are written once more.
        """
        begun_at = time.monotonic()
        results = await self._write(records)
        refused = [index for index, result in enumerate(results) if result == _TOO_LARGE]
        if refused and await self._renew_limit(begun_at) is not None:
            for index, result in zip(refused, await self._write([records[i] for i in refused]), strict=True):
                results[index] = result
        return results

    async def _write(self, records: Sequence[ProducerRecord]) -> list[_Result]:
        """Write records once.

        Kafka counts compressed bytes, so only Kafka can tell whether a record fits that exceeds the limit before
        compression. Such a record goes alone, by another producer: its refusal holds up no other record.
        """
        limit = self._limit
        doubtful = set() if limit is None else {i for i, record in enumerate(records) if largest_batch(record) > limit}
        if limit is None or not doubtful:
            return await self._shared.write(records)
        results: list[_Result] = [_NOT_WRITTEN] * len(records)
        for index in sorted(doubtful, key=lambda index: -len(records[index].value)):
            if self._alone is None:
                self._alone = await self._open({"batch.num.messages": 1, "linger.ms": 0})
            [result] = await self._alone.write([records[index]])
            results[index] = RecordTooLarge(limit) if result == _TOO_LARGE else result
            if not isinstance(result, RecordMetadata):
                return results
        others = [index for index in range(len(records)) if index not in doubtful]
        for index, result in zip(others, await self._shared.write([records[i] for i in others]), strict=True):
            results[index] = result
        return results

    async def check(self, timeout_secs: float) -> str:
        """As `EventProducer.check`. Raises `OperatorError` when no record can be written any more."""
        for writer in self._writers:
            if failure := writer.fatal_error():
                raise failure
        problem = await self._shared.problem(timeout_secs)
        if not problem:
            await self._renew_limit(time.monotonic() - _LIMIT_SECS)
        return problem

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return sum(writer.waiting for writer in self._writers)

    @property
    def statistics(self) -> ClientStatistics:
        """The newest statistics of the shared producer."""
        return self._shared.statistics

    async def _renew_limit(self, before: float) -> int | None:
        """The topic's limit, read unless that was done after ``before``: it may be changed at any time."""
        async with self._reading_limit:
            if self._limit_read_at <= before:
                found = await in_daemon_thread(self._read_limit)
                self._limit = self._limit if found is None else found
                self._limit_read_at = time.monotonic()
                if self._limit is not None and self._limit < self._batch_bytes:
                    self._batch_bytes = self._limit
                    await self._open_shared()
        return self._limit

    async def _open_shared(self) -> None:
        self._shared = await self._open({"batch.size": self._batch_bytes})

    async def _open(self, properties: Mapping[str, int]) -> _Writer:
        writer = await self._open_writer(properties)
        self._writers.append(writer)
        return writer


class _Writer(PolledProducer):
    """A producer for one topic, which reports each record."""

    def __init__(self, properties: Mapping[str, Any], topic: str) -> None:
        super().__init__(properties)
        self._topic = topic

    async def write(self, records: Sequence[ProducerRecord]) -> list[_Result]:
        """Where Kafka put each record, or why it did not."""
        if not records:
            return []
        reports = _Reports(len(records), self._loop)

        def report(index: int, error: KafkaError | None, message: Message) -> None:
            reports.settle(index, _metadata(message) if error is None else error.str())

        for index, record in enumerate(records):
            try:
                self._producer.produce(
                    self._topic,
                    record.value,
                    record.key,
                    headers=list(record.headers),
                    on_delivery=partial(report, index),
                )
            except BufferError:
                reports.settle(index, "the producer's queue is full")
            except KafkaException as error:
                reports.settle(index, error.args[0].str())
        await reports.all_in
        return reports.results

    async def problem(self, timeout_secs: float) -> str:
        """Why the topic cannot be written to at the moment, as far as asking tells; empty when it can."""
        try:
            found = await in_daemon_thread(self._producer.list_topics, self._topic, timeout_secs)
        except KafkaException as error:
            return f"Kafka is out of reach: {error.args[0].str()}"
        problem = found.topics[self._topic].error
        return "" if problem is None else f"{self._topic}: {problem.str()}"


class _Reports:
    """Delivery reports of records written together. They come in the producer's thread; the last one wakes the loop."""

    def __init__(self, expected: int, loop: asyncio.AbstractEventLoop) -> None:
        self.results: list[_Result] = [""] * expected
        self.all_in: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._missing = expected
        self._lock = threading.Lock()

    def settle(self, index: int, result: _Result) -> None:
        """Set the result of the record at ``index``; any thread may call it."""
        self.results[index] = result
        with self._lock:
            self._missing -= 1
            if self._missing:
                return
        self._loop.call_soon_threadsafe(resolve, self.all_in)


def _metadata(message: Message) -> RecordMetadata:
    # An acknowledged message has both; the library's types allow for others.
    return RecordMetadata(cast("int", message.partition()), cast("int", message.offset()))


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
