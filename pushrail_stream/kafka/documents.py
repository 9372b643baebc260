"""Destination documents on a compacted topic, keyed by destination id: all there are first, then what changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self, final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from pushrail_stream.kafka.moments import patiently
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports import DocumentChange, Failed, Publisher

_BATCH: Final = 500
_POLL_SECS: Final = 0.2
_TIMEOUT_SECS: Final = 15.0


@final
class TopicDocuments:
    """Every worker reads the whole topic for itself: no group, no commits. Implements `ports.Documents`."""

    def __init__(self, options: KafkaOptions, topic: str) -> None:
        self._topic = topic
        self._servers = options.bootstrap_servers
        self._consumer = Consumer(
            {
                **options.common(),
                "group.id": f"{options.group_id}.registry",  # librdkafka wants one; it is never joined
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "error_cb": lambda _error: None,  # the events' consumer tells of a broker that is away
            }
        )
        self._closing = threading.Event()
        self._started = False
        self._partitions: list[int] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions, topic: str) -> AsyncIterator[Self]:
        """Ready to read until the block ends."""
        documents = cls(options, topic)
        try:
            yield documents
        finally:
            documents._closing.set()
            await asyncio.to_thread(documents._consumer.close)

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document there is the first time, later what has changed; waits until something has.

        Raises `Failed` when the topic cannot be read to its end.
        """
        if self._started:
            return await asyncio.to_thread(self._next)
        changes = await self.catch_up()
        self._started = True
        return [change for change in changes if change.content is not None]

    async def catch_up(self) -> Sequence[DocumentChange]:
        """What has changed up to now, the last of each document, without waiting for more; raises `Failed`."""
        return await asyncio.to_thread(self._read_to_end)

    def _read_to_end(self) -> list[DocumentChange]:
        latest: dict[str, DocumentChange] = {}
        try:
            ends = patiently(self._ends)
            while any(self._position(number) < end for number, end in ends.items()) and not self._closing.is_set():
                for change in self._read():
                    latest[change.name] = change
        except KafkaException as error:
            raise Failed(f"{self._topic} cannot be read at {self._servers}: {error.args[0].str()}") from error
        return list(latest.values())

    def _ends(self) -> dict[int, int]:
        """End offsets of the partitions that hold something; all are assigned the first time."""
        if not self._partitions:
            known = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_SECS).topics[self._topic]
            if known.error is not None:
                raise KafkaException(known.error)
            self._partitions = list(known.partitions)
            self._consumer.assign([TopicPartition(self._topic, n, OFFSET_BEGINNING) for n in self._partitions])
        ends = {}
        for number in self._partitions:
            first, end = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), timeout=_TIMEOUT_SECS
            )
            if end > first:
                ends[number] = end
        return ends

    def _position(self, number: int) -> int:
        # The consumer's own position, past what compaction and transactions left out.
        [position] = self._consumer.position([TopicPartition(self._topic, number)])
        return int(position.offset)

    def _next(self) -> list[DocumentChange]:
        while not self._closing.is_set():
            if changes := self._read():
                return changes
        return []

    def _read(self) -> list[DocumentChange]:
        messages = self._consumer.consume(_BATCH, _POLL_SECS)
        return [_change(message) for message in messages if message.error() is None]


@final
class TopicStore:
    """The documents' topic, to change. Implements `ports.DocumentStore`; raises `Failed` and `PublishError`."""

    def __init__(self, documents: TopicDocuments, publisher: Publisher, topic: str) -> None:
        self._documents = documents
        self._publisher = publisher
        self._topic = topic
        self._now: dict[str, bytes] = {}

    async def everything(self) -> Sequence[DocumentChange]:
        """Every document there is."""
        await self._catch_up()
        return [DocumentChange(name, content) for name, content in self._now.items()]

    async def read(self, name: str) -> bytes | None:
        """A document as it is now; None when it is gone."""
        await self._catch_up()
        return self._now.get(name)

    async def write(self, name: str, content: bytes | None) -> None:
        """Write a document, or delete it (None). Old records stay in Kafka until it compacts the topic."""
        await self._publisher.publish(self._topic, name.encode(), content, ())

    async def _catch_up(self) -> None:
        for change in await self._documents.catch_up():
            self._now.pop(change.name, None)
            if change.content is not None:
                self._now[change.name] = change.content


def _change(message: Message) -> DocumentChange:
    return DocumentChange((message.key() or b"").decode(errors="replace"), message.value())
