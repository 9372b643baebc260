"""Destination documents on a compacted topic: all there are first, then what changes. The key is the destination id."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self, final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports import DocumentChange, Failed

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
        changes = await asyncio.to_thread(self._everything)
        self._started = True
        return changes

    def _everything(self) -> list[DocumentChange]:
        latest: dict[str, DocumentChange] = {}
        try:
            ends = self._assign()
            while any(self._position(number) < end for number, end in ends.items()):
                for change in self._read():
                    latest[change.name] = change
                if self._closing.is_set():
                    break
        except KafkaException as error:
            raise Failed(f"{self._topic} cannot be read at {self._servers}: {error.args[0].str()}") from error
        return [change for change in latest.values() if change.content is not None]

    def _assign(self) -> dict[int, int]:
        """Read from the beginning; the offsets at which what there is now ends."""
        known = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_SECS).topics[self._topic]
        if known.error is not None:
            raise KafkaException(known.error)
        self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in known.partitions])
        ends = {}
        for number in known.partitions:
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


def _change(message: Message) -> DocumentChange:
    return DocumentChange((message.key() or b"").decode(errors="replace"), message.value())
