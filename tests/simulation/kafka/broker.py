"""One broker: its own, perhaps older, view of the cluster, and its answers to clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from tests.simulation.kafka.access import AccessList, Operation
from tests.simulation.kafka.network import Later
from tests.simulation.kafka.partition_log import NO_PRODUCER, AppendRefused, ErrorCode, Fetched, NewRecord, PartitionLog
from tests.simulation.scheduler import Scheduler

Place = tuple[str, int]
"""A topic's name and the number of a partition."""
EARLIEST: Final = -2
"""The time that asks ListOffsets for the first offset."""
LATEST: Final = -1
"""The time that asks ListOffsets for the end."""
DEFAULT_MAX_BYTES: Final = 1_048_588
"""Kafka's default of ``max.message.bytes``."""


class Topic:
    """A topic, from its creation to its deletion."""

    def __init__(self, name: str, topic_id: str, config: Mapping[str, str]) -> None:
        self.name = name
        self.id = topic_id
        """22 characters, as Kafka prints it."""
        self.config = dict(config)
        self.partitions: list[PartitionLog] = []

    @property
    def max_message_bytes(self) -> int:
        """Largest batch that brokers accept."""
        return int(self.config.get("max.message.bytes", DEFAULT_MAX_BYTES))

    @property
    def is_compacted(self) -> bool:
        """Whether it keeps the newest record of each key."""
        return "compact" in self.config.get("cleanup.policy", "delete")


class TopicView(NamedTuple):
    """A topic as a broker knows it."""

    topic: Topic
    leaders: Sequence[tuple[int | None, int]]
    """Leader and leader epoch of each partition."""


class Metadata(NamedTuple):
    """Answer to Metadata."""

    brokers: Sequence[int]
    topics: Mapping[str, TopicView | ErrorCode]


class FetchPlace(NamedTuple):
    """One partition of a Fetch."""

    offset: int
    epoch: int = -1
    """The leader epoch in which the client believes; -1: none."""
    topic_id: str | None = None
    """The topic that the client means; None: of any id."""


class Batch(NamedTuple):
    """One batch of a Produce."""

    records: Sequence[NewRecord]
    producer: tuple[int, int] = (NO_PRODUCER, -1)
    """Id and epoch."""
    sequence: int = -1
    is_transactional: bool = False


class Produced(NamedTuple):
    """Answer to a Produce."""

    base: int = -1
    error: ErrorCode | None = None


class Broker:
    """Answers as a broker does that has heard of changes up to some moment."""

    def __init__(
        self,
        number: int,
        scheduler: Scheduler,
        acl: AccessList,
        live_brokers: Callable[[], Sequence[int]],
        refuse_batch: Callable[[tuple[int, int], Place], ErrorCode | None],
    ) -> None:
        """``refuse_batch``: the error for a producer (id and epoch) whose transaction does not cover a partition."""
        self.id = number
        self.host = f"kafka-{number}"
        self.port = 9092
        self.is_up = True
        self.is_known_down = False
        """Whether the controller has noticed that it is down."""
        self.view: dict[str, TopicView] = {}
        self._scheduler = scheduler
        self._acl = acl
        self._live_brokers = live_brokers
        self._refuse_batch = refuse_batch

    def metadata(self, topics: Sequence[str] | None) -> Metadata:
        """Answer Metadata about these topics, or about all."""
        named: dict[str, TopicView | ErrorCode] = {}
        for name in self.view if topics is None else topics:
            refusal = self._acl.refusal("topic", name, "Describe")
            if refusal is None:
                named[name] = self.view.get(name, KafkaError.UNKNOWN_TOPIC_OR_PART)
            elif topics is not None:
                named[name] = refusal
        return Metadata(self._live_brokers(), named)

    def produce(self, topic: str, partition: int, batch: Batch) -> Produced:
        """Answer a Produce of one batch with ``acks=all``."""
        log = self._led(topic, partition, "Write")
        if isinstance(log, int):
            return Produced(error=log)
        known = self.view[topic].topic
        if sum(record.size for record in batch.records) > known.max_message_bytes:
            return Produced(error=KafkaError.MSG_SIZE_TOO_LARGE)
        if known.is_compacted and any(record.key is None for record in batch.records):
            return Produced(error=KafkaError.INVALID_RECORD)
        in_sync = set(log.replicas) & set(self._live_brokers())
        if len(in_sync) < int(known.config.get("min.insync.replicas", "1")):
            return Produced(error=KafkaError.NOT_ENOUGH_REPLICAS)
        if batch.is_transactional and not log.has_open(batch.producer[0]):
            refusal = self._refuse_batch(batch.producer, (topic, partition))
            if refusal is not None:
                return Produced(error=refusal)
        try:
            base = log.append(
                batch.records,
                producer=batch.producer,
                sequence=batch.sequence,
                is_transactional=batch.is_transactional,
            )
        except AppendRefused as refused:
            return Produced(error=refused.code)
        return Produced(base)

    def fetch(
        self,
        places: Mapping[Place, FetchPlace],
        *,
        committed_only: bool,
        max_wait: float,
        max_bytes: int = 2**20,
        max_records: int = 10_000,
    ) -> dict[Place, Fetched] | Later:
        """Answer a Fetch: at once if there is anything to read or any error, else after a change or ``max_wait``."""
        read = partial(self._read, places, committed_only=committed_only, max_bytes=max_bytes, max_records=max_records)
        answer = read()
        if max_wait <= 0 or any(_is_news(place, answer[key]) for key, place in places.items()):
            return answer
        later = Later()
        timer = self._scheduler.call_later(max_wait, lambda: later.give(read()))

        def look() -> None:
            found = read()
            if any(_is_news(place, found[key]) for key, place in places.items()):
                timer.cancel()
                later.give(found)
            elif not later.is_given:
                self._watch(places, look)

        self._watch(places, look)
        return later

    def _watch(self, places: Mapping[Place, FetchPlace], look: Callable[[], None]) -> None:
        for topic, number in places:
            self.view[topic].topic.partitions[number].when_changed(look)

    def _read(
        self, places: Mapping[Place, FetchPlace], *, committed_only: bool, max_bytes: int, max_records: int
    ) -> dict[Place, Fetched]:
        found = {}
        for (topic, number), place in places.items():
            log = self._led(topic, number, "Read")
            if isinstance(log, int):
                found[topic, number] = Fetched(error=log)
            elif place.topic_id not in {None, self.view[topic].topic.id}:
                found[topic, number] = Fetched(error=KafkaError.UNKNOWN_TOPIC_ID)
            else:
                found[topic, number] = log.read(
                    place.offset,
                    place.epoch,
                    max_bytes=max_bytes,
                    max_records=max_records,
                    committed_only=committed_only,
                )
        return found

    def list_offset(
        self, topic: str, partition: int, at_ms: int, *, committed_only: bool
    ) -> tuple[int, int] | ErrorCode:
        """Answer ListOffsets: offset and leader epoch for a time, `EARLIEST` or `LATEST`; -1 if there is none."""
        log = self._led(topic, partition, "Describe")
        if isinstance(log, int):
            return log
        if at_ms == EARLIEST:
            return log.first, log.epoch
        if at_ms == LATEST:
            return (log.last_stable if committed_only else log.end), log.epoch
        return log.offset_for_time(at_ms)[0], log.epoch

    def end_of_epoch(self, topic: str, partition: int, epoch: int, current: int = -1) -> tuple[int, int] | ErrorCode:
        """Answer OffsetForLeaderEpoch of a client that believes in the leader epoch ``current``."""
        log = self._led(topic, partition, "Describe")
        if isinstance(log, int):
            return log
        fenced = log.fence(current)
        return log.end_of_epoch(epoch) if fenced is None else fenced

    def _led(self, topic: str, partition: int, operation: Operation) -> PartitionLog | ErrorCode:
        """The log of a partition that this broker leads, or its error."""
        if (refusal := self._acl.refusal("topic", topic, operation)) is not None:
            return refusal
        view = self.view.get(topic)
        if view is None or partition >= len(view.leaders):
            return KafkaError.UNKNOWN_TOPIC_OR_PART
        log = view.topic.partitions[partition]
        if log.leader != self.id or view.leaders[partition][0] != self.id:
            return KafkaError.NOT_LEADER_FOR_PARTITION
        return log


def _is_news(place: FetchPlace, found: Fetched) -> bool:
    """Whether a broker answers this at once."""
    return found.error is not None or found.unreadable is not None or found.next_offset > place.offset
