"""Destination documents on a compacted topic, keyed by destination id: first all that there are, then every change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Self, final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import bounds_of, partitions_of, positions_of, retry_while_settling
from pushrail_stream.kafka.errors import OUT_OF_REACH, as_operator_error, cannot_be_read
from pushrail_stream.kafka.records import take_messages
from pushrail_stream.kafka.topic_ids import LATE_BROKERS_SECS, TopicWatch
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.ports.pipeline import Publisher
from pushrail_stream.settings.model import KafkaSettings

_BATCH: Final = 500
_BATCH_BYTES: Final = 2**20
"""Approximate bytes of a batch of large documents."""
_POLL_SECS: Final = 0.2
_FETCH_WAIT_MS: Final = 500
ASKED_OFTEN_MS: Final = 10
"""The ``fetch_wait_ms`` for callers that ask for the end again and again, as a rotation does for every document."""
_IDENTITY_SECS: Final = 2.0
"""Time between two questions whether the topic was created again."""
_CLOSE_SECS: Final = 1.0
"""Longest wait for the consumer to close. It has no group to leave, and an idle one needs milliseconds."""
_SILENCE_SECS: Final = 60.0
"""Time without a record, although more must come, after which reading to the end fails."""


@final
class TopicDocuments:
    """Every worker reads the whole topic for itself: no group, no commits. Implements `ports.DocumentSource`."""

    def __init__(self, kafka: KafkaSettings, topic: str, *, fetch_wait_ms: int = _FETCH_WAIT_MS) -> None:
        """``fetch_wait_ms``: how long the broker waits for news. The end of a partition is answered after that."""
        self._topic = topic
        self._cannot_be_read = cannot_be_read(topic, kafka)
        self._trouble = "nothing comes"
        properties = client_properties.reader(kafka, f"{kafka.group_id}.registry", {"fetch.wait.max.ms": fetch_wait_ms})
        # The events' consumer reports a broker that is away.
        self._properties = properties | {"error_cb": self._note}
        self._consumer = Consumer(self._properties)
        self._closing = threading.Event()
        self._has_read = False
        self._started = False
        self._begin_again_at = float("inf")
        """The time at which reading begins again: the present client may read the deleted topic at a late broker."""
        self._partitions: list[int] = []
        self._watch = TopicWatch(kafka, topic, _IDENTITY_SECS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        # A call that waits for Kafka keeps the consumer, and the end of the process does not wait for that.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECS):
                await in_daemon_thread(self._consumer.close)

    async def changes(self) -> Sequence[DocumentChange]:
        """As `DocumentSource.changes`.

        Raises `OperatorError` when the topic cannot be read, for now or for good, and `TopicRecreated` when it was
        created again: then the next call brings every document that the new topic holds. Documents that it does not
        hold do not count as deleted: they may still be written. It brings them once more when every broker knows the
        new topic: until then a broker may have served the deleted one.
        """
        if self._started and ((news := await in_daemon_thread(self._next)) or not self._begins_again):
            return news
        changes = await self.catch_up()
        is_first, self._has_read, self._started = not self._has_read, True, True
        return [change for change in changes if change.content is not None or not is_first]

    async def catch_up(self) -> Sequence[DocumentChange]:
        """The last change of each document up to now, without waiting for more; raises `OperatorError`."""
        return await in_daemon_thread(self._read_to_end)

    def _read_to_end(self) -> list[DocumentChange]:
        latest: dict[str, DocumentChange] = {}
        with as_operator_error(self._cannot_be_read):
            self._check_topic()
            if self._begins_again:
                self._begin_anew()
            ends = retry_while_settling(self._ends)
            give_up_at = time.monotonic() + _SILENCE_SECS
            while self._is_below(ends) and not self._closing.is_set():
                self._check_topic()
                changes = self._read()
                if changes:
                    give_up_at = time.monotonic() + _SILENCE_SECS
                elif time.monotonic() > give_up_at:
                    raise OperatorError(f"{self._cannot_be_read}: {self._trouble}")
                latest |= {change.name: change for change in changes}
        return list(latest.values())

    def _ends(self) -> dict[int, int]:
        """End offsets of the partitions that hold something; the first call assigns all partitions."""
        if not self._partitions:
            self._partitions = partitions_of(self._consumer, self._topic)
            self._consumer.assign([TopicPartition(self._topic, n, OFFSET_BEGINNING) for n in self._partitions])
        bounds = {number: bounds_of(self._consumer, self._topic, number) for number in self._partitions}
        return {number: end for number, (first, end) in bounds.items() if end > first}

    def _check_topic(self) -> None:
        """Raise `TopicRecreated` when the topic was created again; the next call starts over."""
        if self._watch.is_due() and self._watch.was_recreated():
            self._begin_anew()
            self._begin_again_at = time.monotonic() + LATE_BROKERS_SECS
            raise TopicRecreated(
                f"{self._topic} was deleted and created again: it is read from its beginning, and documents that it "
                "does not hold stay in use until they are deleted or the worker starts again"
            )

    @property
    def _begins_again(self) -> bool:
        return time.monotonic() >= self._begin_again_at

    def _begin_anew(self) -> None:
        """Read everything again with a new client.

        librdkafka keeps the leader epochs of the name: brokers may refuse every fetch from the new topic.
        """
        self._started, self._begin_again_at, self._partitions = False, float("inf"), []
        self._consumer.close()
        self._consumer = Consumer(self._properties)

    def _is_below(self, ends: Mapping[int, int]) -> bool:
        positions = positions_of(self._consumer, self._topic, ends)
        return any(position < ends[number] for number, position in positions.items())

    def _next(self) -> list[DocumentChange]:
        with as_operator_error(self._cannot_be_read):
            while not self._closing.is_set() and not self._begins_again:
                self._check_topic()
                if changes := self._read():
                    return changes
        return []

    def _read(self) -> list[DocumentChange]:
        messages = take_messages(self._consumer, _POLL_SECS, _BATCH, _BATCH_BYTES)
        changes = [_change(message) for message in messages if message.error() is None]
        for error in filter(None, (message.error() for message in messages)):
            self._note(error)
            if not changes and not error.retriable() and error.code() not in OUT_OF_REACH:
                raise KafkaException(error)
        return changes

    def _note(self, error: KafkaError) -> None:
        self._trouble = error.str()


@final
class TopicStore:
    """The documents' topic, to change. Implements `ports.DocumentStore`; raises `OperatorError` and `PublishError`."""

    def __init__(self, documents: TopicDocuments, publisher: Publisher, topic: str) -> None:
        self._documents = documents
        self._publisher = publisher
        self._topic = topic
        self._now: dict[str, bytes] = {}

    async def everything(self) -> Sequence[DocumentChange]:
        """As `DocumentStore.everything`."""
        await self._catch_up()
        return [DocumentChange(name, content) for name, content in self._now.items()]

    async def read(self, name: str) -> bytes | None:
        """As `DocumentStore.read`."""
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
