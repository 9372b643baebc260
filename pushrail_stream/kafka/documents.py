"""Destination documents on a compacted topic, keyed by destination id: all there are first, then what changes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, Self, final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.offsets import was_recreated
from pushrail_stream.core.record import TopicIdentity
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.kafka.admin import retry_while_settling
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.ports.pipeline import Publisher

_BATCH: Final = 500
_POLL_SECS: Final = 0.2
_TIMEOUT_SECS: Final = 15.0
_FETCH_WAIT_MS: Final = 500
ASKED_OFTEN_MS: Final = 10
"""Of ``fetch_wait_ms``, for those who ask for the end again and again: a rotation does for every document."""
_LOOK_SECS: Final = 2.0
"""How often to ask whether the topic was created again meanwhile."""
_CLOSE_SECS: Final = 1.0
"""Seconds that the consumer gets to close. It has no group to leave, and an idle one needs milliseconds."""
_SILENCE_SECS: Final = 60.0
"""Until reading to the end is given up when nothing comes, be it that a broker is away."""
_PASSING: Final = frozenset(
    {
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,  # noqa: SLF001 - librdkafka's own codes are named so
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
    }
)
"""What librdkafka mends by itself beside what it calls retriable."""


@final
class TopicDocuments:
    """Every worker reads the whole topic for itself: no group, no commits. Implements `ports.DocumentSource`."""

    def __init__(self, options: KafkaOptions, topic: str, *, fetch_wait_ms: int = _FETCH_WAIT_MS) -> None:
        """``fetch_wait_ms``: how long the broker waits for news. Where a partition ends is answered after that."""
        self._topic = topic
        self._servers = options.bootstrap_servers
        self._trouble = "nothing comes"
        self._consumer = Consumer(
            options.reader(f"{options.group_id}.registry", {"fetch.wait.max.ms": fetch_wait_ms})
            | {"error_cb": self._note}  # the events' consumer tells of a broker that is away
        )
        self._closing = threading.Event()
        self._started = False
        self._partitions: list[int] = []
        self._identities = TopicIdentities(options)
        self._identity: TopicIdentity | None = None
        self._look_at = 0.0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, options: KafkaOptions, topic: str, *, fetch_wait_ms: int = _FETCH_WAIT_MS
    ) -> AsyncIterator[Self]:  # fmt: skip
        """Ready to read until the block ends."""
        documents = cls(options, topic, fetch_wait_ms=fetch_wait_ms)
        try:
            yield documents
        finally:
            documents._closing.set()
            # A call that waits for Kafka keeps the consumer, and the end of the process does not wait for that.
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECS):
                    await in_daemon_thread(documents._consumer.close)

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document there is the first time, later what has changed; waits until something has.

        Raises `OperatorError` when the topic cannot be read, for now or for good, and `TopicRecreated` when it was
        created again: then the next call brings every document that the new topic holds. Documents that it does not
        hold do not count as deleted: they may still be written.
        """
        if self._started:
            return await in_daemon_thread(self._next)
        changes = await self.catch_up()
        self._started = True
        return [change for change in changes if change.content is not None]

    async def catch_up(self) -> Sequence[DocumentChange]:
        """What has changed up to now, the last of each document, without waiting for more; raises `OperatorError`."""
        return await in_daemon_thread(self._read_to_end)

    def _read_to_end(self) -> list[DocumentChange]:
        latest: dict[str, DocumentChange] = {}
        with self._failing():
            self._look()
            ends = retry_while_settling(self._ends)
            give_up_at = time.monotonic() + _SILENCE_SECS
            while any(self._position(number) < end for number, end in ends.items()) and not self._closing.is_set():
                self._look()
                changes = self._read()
                if changes:
                    give_up_at = time.monotonic() + _SILENCE_SECS
                elif time.monotonic() > give_up_at:
                    raise self._failed(self._trouble)
                latest |= {change.name: change for change in changes}
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

    def _look(self) -> None:
        """Raise `TopicRecreated` when the topic was created again; the next call begins anew."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECS
        before, now = self._identity, self._identities.ask([self._topic]).get(self._topic)
        self._identity = now or before
        if was_recreated(before, now):
            self._started, self._partitions = False, []
            raise TopicRecreated(
                f"{self._topic} was deleted and created again: it is read from its beginning, and documents that it "
                "does not hold stay in use until they are deleted or the worker starts again"
            )

    def _position(self, number: int) -> int:
        # The consumer's own position, past what compaction and transactions left out.
        [position] = self._consumer.position([TopicPartition(self._topic, number)])
        return int(position.offset)

    def _next(self) -> list[DocumentChange]:
        with self._failing():
            while not self._closing.is_set():
                self._look()
                if changes := self._read():
                    return changes
        return []

    def _read(self) -> list[DocumentChange]:
        first = self._consumer.poll(_POLL_SECS)
        if first is None:
            return []
        # What is there besides: a full reading would wait for more until its time is over.
        messages = [first, *self._consumer.consume(_BATCH, 0)]
        changes = [_change(message) for message in messages if message.error() is None]
        for error in filter(None, (message.error() for message in messages)):
            self._note(error)
            if not changes and not error.retriable() and error.code() not in _PASSING:
                raise KafkaException(error)
        return changes

    def _note(self, error: KafkaError) -> None:
        self._trouble = error.str()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self._failed(error.args[0].str()) from error

    def _failed(self, reason: str) -> OperatorError:
        return OperatorError(f"{self._topic} cannot be read at {self._servers}: {reason}")


@final
class TopicStore:
    """The documents' topic, to change. Implements `ports.DocumentStore`; raises `OperatorError` and `PublishError`."""

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
        try:
            changes = await self._documents.catch_up()
        except TopicRecreated:
            self._now.clear()
            raise
        for change in changes:
            self._now.pop(change.name, None)
            if change.content is not None:
                self._now[change.name] = change.content


def _change(message: Message) -> DocumentChange:
    return DocumentChange((message.key() or b"").decode(errors="replace"), message.value())
