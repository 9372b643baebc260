"""The questions to brokers that a consumer answers without any group: topics, bounds of partitions, times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ClusterMetadata

from tests.simulation.kafka.broker import EARLIEST, LATEST, Broker, TopicView
from tests.simulation.kafka.client import RECONNECT_SECS, SimClient
from tests.simulation.kafka.consumed import failure, partition_outcome
from tests.simulation.kafka.network import Done
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Condition, Scheduler, SimThread

_NONE_FOUND = -1
"""The offset for a time after the last record."""


@final
class _Door:
    """Keeps other threads out while one is inside; they wait. It is entered so often that it is no generator."""

    __slots__ = ("_depth", "_inside", "_left", "_scheduler", "is_closed")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._inside: SimThread | None = None
        self._depth = 0
        self._left = Condition(scheduler)
        self.is_closed = False

    def __enter__(self) -> None:
        """Raises RuntimeError after `close`."""
        thread = self._scheduler.running
        while self._inside is not None and self._inside is not thread:
            self._left.wait()
        if self.is_closed:
            raise RuntimeError("Consumer closed")
        self._inside = thread
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._inside = None
            self._left.notify()


class AskingClient(SimClient):
    """A client that lets one thread in at a time, as confluent_kafka.Consumer does."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(properties)
        self._door = _Door(self.scheduler)
        self._committed_only = properties.get("isolation.level", "read_committed") == "read_committed"

    def list_topics(self, topic: str | None = None, timeout: float = -1.0) -> ClusterMetadata:
        """As librdkafka's. Raises KafkaException."""
        with self._door:
            return super().list_topics(topic, timeout)

    def offsets_for_times(self, partitions: Sequence[TopicPartition], timeout: float = -1.0) -> list[TopicPartition]:
        """The first offset of each time or later; -1 if there is none, and errors by partition.

        Raises KafkaException when no partition exists or has a leader.
        """
        what = "Failed to get offsets"
        with self._door:
            leaders: list[int | KafkaException] = []
            for wanted in partitions:
                try:
                    leaders.append(self._find_leader((wanted.topic, wanted.partition), timeout, what))
                except KafkaException as error:
                    leaders.append(error)
            if leaders and isinstance(leaders[0], KafkaException) and not any(isinstance(one, int) for one in leaders):
                raise leaders[0]
            pairs = zip(partitions, leaders, strict=True)
            return [self._look_up(wanted, leader, timeout) for wanted, leader in pairs]

    def _look_up(self, wanted: TopicPartition, leader: int | KafkaException, timeout: float) -> TopicPartition:
        place = (wanted.topic, wanted.partition)
        try:
            if isinstance(leader, KafkaException):
                raise leader
            offset, epoch = self._offset_at(place, leader, wanted.offset, timeout)
        except KafkaException as error:
            return partition_outcome(place, wanted.offset, "", -1, error.args[0].code())
        return partition_outcome(place, offset if offset >= 0 else _NONE_FOUND, "", epoch)

    def _bounds(self, place: tuple[str, int], timeout: float) -> tuple[int, int]:
        """The first offset and the end, from the leader. Raises KafkaException."""
        what = "Failed to get watermark offsets"
        leader = self._find_leader(place, timeout, what)
        try:
            first, _ = self._offset_at(place, leader, EARLIEST, timeout)
            end, _ = self._offset_at(place, leader, LATEST, timeout)
        except KafkaException as error:
            is_alone = not any(map(self.cluster.is_up, self.cluster.brokers))
            code = error.args[0].code()
            is_down = code == KafkaError._TRANSPORT and is_alone
            raise failure(KafkaError._ALL_BROKERS_DOWN if is_down else code, what) from error
        return first, end

    def _offset_at(self, place: tuple[str, int], leader: int, at_ms: int, timeout: float) -> tuple[int, int]:
        topic, partition = place

        def handle(broker: Broker) -> tuple[int, int] | ErrorCode:
            return broker.list_offset(topic, partition, at_ms, committed_only=self._committed_only)

        def send(done: Done, secs: float) -> None:
            self._send(leader, "ListOffsets", lambda: handle(self.cluster.brokers[leader]), done, secs)

        try:
            found: tuple[int, int] = self._ask(send, timeout)
        except KafkaException:
            self._views.pop(topic, None)  # the next question begins with newer metadata
            raise
        return found

    def _find_leader(self, place: tuple[str, int], timeout: float, what: str) -> int:
        """The leader of a partition. Raises KafkaException when there is none in that time."""
        topic, partition = place
        end = self.scheduler.now + timeout if timeout >= 0 else float("inf")
        while (leader := self._leader(topic, partition)) is None:
            view = self._ask_about(topic, max(0.0, end - self.scheduler.now))
            if isinstance(view, int) and view != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise failure(view, what)
            if isinstance(view, int) or partition >= len(view.leaders):
                raise failure(KafkaError._UNKNOWN_PARTITION, what)
            if self._leader(topic, partition) is None:
                if self.scheduler.now + RECONNECT_SECS >= end:
                    raise failure(KafkaError.LEADER_NOT_AVAILABLE, what)
                self._pause(self.scheduler.now + RECONNECT_SECS)
        return leader

    def _ask_about(self, topic: str, timeout: float) -> TopicView | ErrorCode:
        def send(done: Done, secs: float) -> None:
            self._send_to_any("Metadata", lambda broker: broker.metadata([topic]), done, secs)

        self._views.update(self._ask(send, timeout if timeout != float("inf") else -1.0).topics)
        return self._views.get(topic, int(KafkaError.UNKNOWN_TOPIC_OR_PART))

    def _refresh_views(self, topics: list[str], done: Callable[[Mapping[str, Any]], None]) -> None:
        """Ask about topics in the background; ``done`` gets the answer, which is empty when that failed."""

        def note(answer: Any) -> None:
            found: Mapping[str, Any] = {} if isinstance(answer, int) else answer.topics
            self._views.update(found)
            done(found)

        self._send_to_any("Metadata", lambda broker: broker.metadata(topics), note)
