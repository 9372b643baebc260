"""The part of a consumer that reads: messages, positions, seeks and pauses. It needs no group."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import OFFSET_INVALID, KafkaError, Message, TopicPartition

from tests.simulation.kafka.asking_client import AskingClient
from tests.simulation.kafka.broker import Broker, Place
from tests.simulation.kafka.consumed import error_message, failure, message_of, partition_outcome
from tests.simulation.kafka.known_topics import KnownTopics
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.kafka.positions import Position, Reader, Reading
from tests.simulation.kafka.reading import Readers
from tests.simulation.kafka.reconnects import Reconnects

_RESETS: Final = {
    "smallest": "earliest", "earliest": "earliest", "beginning": "earliest",
    "largest": "latest", "latest": "latest", "end": "latest", "error": "error",
}  # fmt: skip
"""librdkafka's names of one policy."""


def place_of(partition: TopicPartition) -> Place:
    """The partition, without its offset."""
    return partition.topic, partition.partition


def _in_order(partitions: Sequence[TopicPartition]) -> list[Place]:
    """These partitions in one order: the product keeps them in sets, whose order means nothing."""
    return sorted(map(place_of, partitions))


def position_of(partition: TopicPartition) -> Position:
    """The offset, with its leader epoch if it has one."""
    epoch: int | None = partition.leader_epoch
    return Position(partition.offset, -1 if epoch is None else epoch)


class ReadingClient(AskingClient):
    """Reads assigned partitions."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(properties)
        self._errors = deque[Message]()
        """Errors that belong to no position."""
        self._is_polling = False
        self._polled_at = self.scheduler.now
        self._reconnects = Reconnects(self._host, self._secs("reconnect.backoff.max.ms", 10_000), self._try_broker)
        self._topics = KnownTopics(
            self._host,
            self._refresh_views,
            interval_secs=self._secs("topic.metadata.refresh.interval.ms", 300_000),
            propagation_secs=self._secs("topic.metadata.propagation.max.ms", 30_000),
            reconnect_secs=self._secs("reconnect.backoff.max.ms", 10_000),
        )
        self._topics.on_gone = self._tell_gone
        self._readers = Readers(
            self._host, self._reading(), self._topics, self._send_to_leader, self._changed.notify_all
        )

    def _secs(self, name: str, default_ms: float) -> float:
        return self._number(name, default_ms) / 1000

    def _reading(self) -> Reading:
        return Reading(
            self._committed_only,
            _RESETS[str(self._properties.get("auto.offset.reset", "largest"))],
            int(self._number("queued.max.messages.kbytes", 65_536)) * 1024,
            int(self._number("max.partition.fetch.bytes", 1_048_576)),
            self._secs("fetch.wait.max.ms", 500),
            self._secs("fetch.error.backoff.ms", 500),
            self._secs("fetch.queue.backoff.ms", 1_000),
            str(self._properties.get("enable.partition.eof", False)).lower() == "true",
        )

    def _send_to_leader(
        self, broker: int, api: str, handle: Callable[[Broker], Any], done: Callable[[Any], None]
    ) -> None:
        self._reconnects.send(
            broker, lambda take: self._send(broker, api, lambda: handle(self.cluster.brokers[broker]), take), done
        )

    def _forget_leaders(self) -> None:
        self._topics.forget_leaders()

    def _try_broker(self, broker: int, done: Callable[[Any], None]) -> None:
        if not self._door.is_closed:
            self._send(broker, "ApiVersions", lambda: ("versions",), done)

    # Messages.

    def poll(self, timeout: float | None = -1) -> Message | None:
        """The next message, or an error in its place; None when the time is over."""
        found = self._gather(1, -1 if timeout is None else timeout)
        return found[0] if found else None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """As many messages as come in that time."""
        return self._gather(num_messages, timeout)

    def _gather(self, count: int, timeout: float) -> list[Message]:
        with self._door:
            end = self.scheduler.now + timeout if timeout >= 0 else float("inf")
            self._begin_poll()
            found: list[Message] = []
            try:
                while True:
                    self._serve_events()
                    self._take(found, count)
                    if len(found) >= count or self.scheduler.now >= end:
                        return found
                    self._changed.wait(None if timeout < 0 else end - self.scheduler.now)
            finally:
                self._is_polling = False
                self._polled_at = self.scheduler.now

    def _begin_poll(self) -> None:
        self._is_polling = True

    def _take(self, found: list[Message], count: int) -> None:
        """Take messages from the queue."""
        while len(found) < count:
            if self._errors:
                found.append(self._errors.popleft())
                continue
            if not self._readers.queue:
                return
            chunk = self._readers.queue[0]
            topic, partition = chunk.reader.place
            if chunk.error is not None:
                code, offset, text = chunk.error
                found.append(error_message(code, text, topic, partition, offset))
                self._readers.drop(chunk)
            elif chunk.at < len(chunk.records):
                records = chunk.records[chunk.at : chunk.at + count - len(found)]
                found += [message_of(topic, partition, record) for record in records]
                chunk.at += len(records)
                chunk.reader.taken = Position(records[-1].offset + 1, records[-1].epoch)
            else:  # markers of transactions, and gaps
                chunk.reader.taken = chunk.end
                self._readers.drop(chunk)

    def tell_error(self, code: ErrorCode, text: str, topic: str | None = None) -> None:
        """Bring an error to the application in place of a message."""
        self._errors.append(error_message(code, text, topic, None if topic is None else 0, None))
        self._changed.notify_all()

    def _tell_gone(self, topic: str, codes: Sequence[ErrorCode]) -> None:
        """Tell `error_cb` of every partition, unless a rebalance takes it away before the next poll."""

        def tell(reader: Reader) -> None:
            callback = self._properties.get("error_cb")
            if callback is not None and self._readers.assigned.get(reader.place) is reader and not reader.is_held:
                for code in codes:
                    callback(KafkaError(code, f"{topic} [{reader.place[1]}]: {KafkaError(code).str()}"))

        for place, reader in self._readers.assigned.items():
            if place[0] == topic:
                self._add_event(partial(tell, reader))

    # Assignments.

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions and no others."""
        with self._door:
            self.drop_all()
            self._add(partitions)

    def unassign(self) -> None:
        """Read nothing."""
        with self._door:
            self.drop_all()

    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read."""
        with self._door:
            return [TopicPartition(*place) for place in self._readers.assigned]

    def drop_all(self) -> None:
        """Read nothing more."""
        self._remove(self._readers.assigned)

    def _add(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._readers.add(place_of(partition), position_of(partition))

    def _remove(self, places: Iterable[Place]) -> None:
        self._readers.remove(list(places))

    # Positions.

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Behind the last record that was taken, of each partition."""
        with self._door:
            return [self._position(place_of(partition)) for partition in partitions]

    def _position(self, place: Place) -> TopicPartition:
        reader = self._readers.assigned.get(place)
        if reader is None:
            return partition_outcome(place, OFFSET_INVALID, "", -1)
        return partition_outcome(place, reader.taken.offset, "", reader.taken.epoch)

    def seek(self, partition: TopicPartition) -> None:
        """Read on there. Raises KafkaException when the partition is not being read."""
        with self._door:
            reader = self._readers.assigned.get(place_of(partition))
            if reader is None or reader.has_failed:
                raise failure(KafkaError._STATE, f"Failed to seek to offset {partition.offset}")
            self._readers.seek(reader, position_of(partition))

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more of these."""
        with self._door:
            for place in _in_order(partitions):
                self._readers.pause(place)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Undo `pause`."""
        with self._door:
            for place in _in_order(partitions):
                self._readers.resume(place)

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1.0, *, cached: bool = False
    ) -> tuple[int, int]:
        """The first offset and the end; ``cached``: as the newest answer to a fetch told, negative without one.

        Raises KafkaException.
        """
        with self._door:
            place = place_of(partition)
            if not cached:
                return self._bounds(place, timeout)
            reader = self._readers.assigned.get(place)
            return (OFFSET_INVALID, OFFSET_INVALID) if reader is None else (self._first_of(reader), reader.end)

    def _first_of(self, reader: Reader) -> int:
        """The first offset. A fetch that waits would have been answered with a newer one every moment."""
        topic = self.cluster.topic(reader.place[0])
        known = self._topics[reader.place[0]]
        if not reader.is_fetching or topic is None or topic.id != known.id:
            return reader.first
        leader = self._topics.leader(*reader.place)
        is_reachable = leader is not None and self.cluster.is_up(leader)
        return topic.partitions[reader.place[1]].first if is_reachable and reader.first >= 0 else reader.first

    # Statistics and the end.

    def _statistics(self) -> dict[str, Any]:
        counts: dict[str, dict[str, Any]] = {}
        for chunk in self._readers.queue:
            topic, partition = chunk.reader.place
            counts.setdefault(topic, {}).setdefault(str(partition), {"fetchq_cnt": 0})["fetchq_cnt"] += (
                len(chunk.records) - chunk.at
            )
        return super()._statistics() | {
            "topics": {topic: {"partitions": partitions} for topic, partitions in counts.items()}
        }

    def _stop(self) -> None:
        """End all background work."""
        self.drop_all()
        self._topics.is_closed = True
        self._door.is_closed = True
