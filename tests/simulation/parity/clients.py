"""The readers and writers of the stories: members of groups that keep a diary, and a writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from tests.simulation.parity.kit import PATIENCE_SECS, Kit, error_of

READING: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 20,
    "topic.metadata.refresh.interval.ms": 1_000,
    "topic.metadata.propagation.max.ms": 2_000,
    "reconnect.backoff.max.ms": 200,
}
"""The engine's own settings where they matter (`client_properties`), with quicker metadata."""
WRITING: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "message.max.bytes": 1_000_000_000,
    "delivery.timeout.ms": 10_000,
    "topic.metadata.propagation.max.ms": 2_000,
    "reconnect.backoff.max.ms": 200,
}
"""The engine's own settings of producers, with shorter time-outs."""

_PLACED: Final = frozenset({KafkaError._PARTITION_EOF, KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})
"""Errors whose offset means something. That of others is any number."""


def group_properties(kit: Kit, group: str) -> dict[str, Any]:
    """A member's properties under the story's protocol, with the shortest sessions that the real broker takes."""
    if kit.protocol == "consumer":
        return {**READING, "group.id": group, "group.protocol": "consumer"}
    short = {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 500}
    return {**READING, **short, "group.id": group, "partition.assignment.strategy": "cooperative-sticky"}


class Reader:
    """A consumer outside any group, with what it got."""

    def __init__(self, kit: Kit, **properties: Any) -> None:
        """``properties``: with underscores for dots."""
        self.got: list[str] = []
        """Records as ``partition@offset value``."""
        self.errors: list[str] = []
        """Errors that came as messages, each once."""
        self.events: list[str] = []
        """Errors that came to the error callback, each once."""
        own = {**READING, "group.id": kit.unique("reader"), "error_cb": self._on_error}
        self.consumer = kit.consumer({**own, **self._callbacks(), **_dotted(properties)})
        self.kit = kit

    def poll(self, secs: float) -> None:
        """Poll once."""
        message = self.consumer.poll(secs)
        if message is None:
            return
        error = message.error()
        if error is None:
            value = message.value()
            self.got.append(f"{message.partition()}@{message.offset()} {None if value is None else value.decode()}")
        else:
            where = f"{message.partition()}@{message.offset()} " if error.code() in _PLACED else ""
            _add(self.errors, where + error_of(error))

    def read(self, topic: str, count: int, start: int = OFFSET_BEGINNING, partition: int = 0) -> list[str]:
        """Read some records of one partition from an offset on."""
        self.consumer.assign([TopicPartition(topic, partition, start)])
        return self.read_on(count)

    def read_on(self, count: int) -> list[str]:
        """Read this number of further records, or fewer when no more come in time."""
        before = len(self.got)
        self.kit.until(lambda: len(self.got) >= before + count, self)
        self.kit.meanwhile(0.3, self)
        return self.got[before:]

    def position(self, topic: str, partition: int = 0) -> int:
        """The next offset."""
        [place] = self.consumer.position([TopicPartition(topic, partition)])
        return int(place.offset)

    def close(self) -> None:
        """Close the consumer."""
        self.consumer.close()

    def _callbacks(self) -> dict[str, Any]:
        return {}

    def _on_error(self, error: KafkaError) -> None:
        _add(self.events, error_of(error))


class Member(Reader):
    """A member of a group that begins as the engine's consumer does, and keeps a diary of its callbacks."""

    def __init__(self, kit: Kit, group: str, *topics: str, **properties: Any) -> None:
        own = {name.replace(".", "_"): value for name, value in group_properties(kit, group).items()}
        super().__init__(kit, **{**own, **properties})
        self.diary: list[str] = []
        """Rebalances as ``assign 2``: how many partitions."""
        self.owned: set[tuple[str, int]] = set()
        self.commits: list[Any] = []
        """The calls of ``on_commit``."""
        self.at_revoke: Callable[[Sequence[TopicPartition]], object] = lambda _partitions: None
        """Called while partitions are revoked."""
        self.consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def has(self, count: int) -> bool:
        """Whether it owns this number of partitions."""
        return len(self.owned) == count

    @property
    def moves(self) -> list[str]:
        """As `moves_of`."""
        return moves_of(self.diary)

    def numbers(self) -> list[int]:
        """The partitions that it owns."""
        return sorted(number for _, number in self.owned)

    def _callbacks(self) -> dict[str, Any]:
        return {"on_commit": self._on_commit}

    def _on_assign(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self.diary.append(f"assign {len(partitions)}")
        self.owned |= {(p.topic, p.partition) for p in partitions}
        try:
            starts = consumer.committed(list(partitions), timeout=10.0)
        except KafkaException as error:
            self.diary.append(f"committed {error_of(error.args[0])}")
            starts = list(partitions)
        consumer.incremental_assign(starts)
        for start in starts:
            if start.offset >= 0 and start.leader_epoch is not None:
                consumer.seek(start)

    def _on_revoke(self, _consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self.diary.append(f"revoke {len(partitions)}")
        self.at_revoke(partitions)
        self.owned -= {(p.topic, p.partition) for p in partitions}

    def _on_lost(self, _consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self.diary.append(f"lost {len(partitions)}")
        self.owned -= {(p.topic, p.partition) for p in partitions}

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        self.commits.append([error_of(error), [[p.partition, p.offset, error_of(p.error)] for p in partitions]])


def live_elsewhere(consumer: Any, topic: str, say: Callable[[str], object]) -> NoReturn:
    """Be a member, and tell every rebalance, until killed."""

    def on_assign(_consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        say(f"assign {len(partitions)}")
        consumer.incremental_assign(list(partitions))

    def on_revoke(_consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        say(f"revoke {len(partitions)}")

    def on_lost(_consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        say(f"lost {len(partitions)}")

    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
    while True:
        consumer.poll(0.1)


def moves_of(diary: Sequence[str]) -> list[str]:
    """A diary without rebalances that changed nothing: their number depends on who came first."""
    return [entry for entry in diary if entry != "assign 0"]


class Writer:
    """A producer that waits for each record, so that every record is a batch of its own."""

    def __init__(self, kit: Kit, **properties: Any) -> None:
        self.kit = kit
        self.events: list[str] = []
        self.producer = kit.producer({**WRITING, "error_cb": self._on_error, **_dotted(properties)})
        self.reports: list[str] = []

    def write(self, topic: str, *values: Any, partition: int = 0, **more: Any) -> list[str]:
        """Write values to a partition, each acknowledged before the next; their offsets, or errors."""
        self.reports = []
        for value in values:
            self.send(topic, value, partition=partition, **more)
            self.flush()
        return self.reports

    def flush(self) -> None:
        """Wait until every record is reported.

        `Producer.flush` raises a fatal error as a KafkaError, which is no exception and which nothing can catch.
        """
        until = self.kit.now() + PATIENCE_SECS
        while len(self.producer) and self.kit.now() < until:
            try:
                self.producer.poll(0.1)
            except KafkaException as error:
                _add(self.events, f"raises {error_of(error.args[0])}")

    def send(self, topic: str, value: Any, *, partition: int = 0, **more: Any) -> None:
        """Hand a value to the producer."""
        content = value.encode() if isinstance(value, str) else value
        try:
            self.producer.produce(topic, content, partition=partition, on_delivery=self._on_delivery, **more)
        except KafkaException as error:
            self.reports.append(f"raises {error_of(error.args[0])}")

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        self.reports.append(error_of(error) if error else f"{message.partition()}@{message.offset()}")

    def _on_error(self, error: KafkaError) -> None:
        _add(self.events, error_of(error))


def write(kit: Kit, topic: str, *values: Any, partition: int = 0, **more: Any) -> None:
    """Write values to a partition, each as a batch of its own."""
    reports = Writer(kit).write(topic, *values, partition=partition, **more)
    assert all("@" in report for report in reports), reports


def _dotted(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in properties.items()}


def _add(found: list[str], what: str) -> None:
    if what not in found:
        found.append(what)
