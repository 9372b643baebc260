"""A cluster with consumers, for the tests of `SimConsumer`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaException, Message, TopicPartition

from tests.simulation.kafka.client import bound_to
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumer import SimConsumer
from tests.simulation.kafka.groups import Commit, Coordinators
from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.partition_log import ErrorCode, NewRecord
from tests.simulation.scheduler import Condition, Host, Scheduler

TOPIC: Final = "events"
PROPERTIES: Final[Mapping[str, Any]] = {
    "bootstrap.servers": "kafka",
    "group.id": "g",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 100,
    "topic.metadata.refresh.interval.ms": 15_000,
    "statistics.interval.ms": 2_000,
}
CLASSIC: Final = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,
}
KIP_848: Final = {"group.protocol": "consumer"}


class ConsumerStage:
    """One topic, and hosts whose threads tests write."""

    def __init__(self, partitions: int = 1, **properties: Any) -> None:
        self.scheduler = Scheduler()
        self.cluster = Cluster(self.scheduler, random.Random(1))
        self.cluster.coordinators = self.coordinators = Coordinators(self.cluster)
        self.coordinators.first_delay_secs = 0.0
        self.topic = self.cluster.create_topic(TOPIC, partitions)
        self.properties = {**PROPERTIES, **CLASSIC, **properties}
        self.fates: dict[str, list[Fate]] = {}
        """Of the next requests, by API."""
        self.cluster.network.faults = self._fate_of
        self._clock = Condition(self.scheduler)

    def _fate_of(self, api: str, _host: object, _broker: int) -> Fate:
        waiting = self.fates.get(api)
        return waiting.pop(0) if waiting else Fate()

    def consumer(self, **more: Any) -> SimConsumer:
        """A consumer; call it in a simulated thread."""
        named = {
            name if name.startswith("on_") or name.endswith("_cb") else name.replace("_", "."): value
            for name, value in more.items()
        }
        properties = {**self.properties, **named}
        return bound_to(SimConsumer, self.cluster, self.scheduler)(properties)

    def sleep(self, secs: float) -> None:
        """Let a simulated thread wait."""
        self._clock.wait(secs)

    def start(self, function: Callable[[], object], at: float = 0.0) -> Host:
        """Begin a thread on a host of its own, after this time."""
        host = self.scheduler.host(f"host-{len(self.scheduler.hosts)}")
        self.scheduler.call_later(at, host.start, function)
        return host

    def run(self, *functions: Callable[[], object], secs: float = 600.0) -> None:
        """Run threads, all of which must end."""
        ended: list[int] = []

        def wrapped(number: int, function: Callable[[], object]) -> None:
            function()
            ended.append(number)

        for number, function in enumerate(functions):
            host = self.scheduler.host(f"host-{len(self.scheduler.hosts)}")
            host.start(wrapped, number, function)
        self.scheduler.run(self.scheduler.now + secs)
        assert sorted(ended) == list(range(len(functions))), "a thread has not ended"

    def append(self, values: Iterable[object], partition: int = 0, topic: str = TOPIC) -> None:
        """Write one batch."""
        log = self.cluster.topics[topic].partitions[partition]
        log.append([NewRecord(None, str(value).encode()) for value in values])

    @property
    def commits(self) -> dict[int, Commit]:
        """The group's commits by partition."""
        return {number: commit for (_, number), commit in self.coordinators.of("g").commits.items()}


class Member:
    """A consumer that polls and keeps what happened to it."""

    def __init__(self, stage: ConsumerStage, consumer: SimConsumer) -> None:
        self.stage = stage
        self.consumer = consumer
        self.owned: set[int] = set()
        self.values: list[str] = []
        self.errors: list[ErrorCode] = []
        self.told: list[tuple[str, list[int]]] = []
        """The callbacks, with their partitions."""

    def subscribe(self, topics: Sequence[str] = (TOPIC,)) -> None:
        self.consumer.subscribe(list(topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    def _assign(self, consumer: SimConsumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        self.told.append(("assign", numbers))
        self.owned |= set(numbers)
        consumer.incremental_assign(partitions)

    def _revoke(self, _consumer: SimConsumer, partitions: list[TopicPartition]) -> None:
        self._give_up("revoke", partitions)

    def _lose(self, _consumer: SimConsumer, partitions: list[TopicPartition]) -> None:
        self._give_up("lost", partitions)

    def _give_up(self, kind: str, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        self.told.append((kind, numbers))
        self.owned -= set(numbers)

    def poll(self, secs: float, until: Callable[[], bool] = lambda: False) -> None:
        """Poll for this time, or until something holds."""
        end = self.stage.scheduler.now + secs
        while self.stage.scheduler.now < end and not until():
            message = self.consumer.poll(0.1)
            if message is not None:
                self.take(message)

    def take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self.errors.append(error.code())
        else:
            self.values.append((message.value() or b"").decode())

    def position(self, partition: int = 0) -> int:
        [found] = self.consumer.position([TopicPartition(TOPIC, partition)])
        return found.offset

    def commit(self, offset: int, partition: int = 0, metadata: str = "", epoch: int = 0) -> ErrorCode | None:
        """Commit and wait; the error."""
        try:
            self.consumer.commit(
                offsets=[TopicPartition(TOPIC, partition, offset, metadata, epoch)], asynchronous=False
            )
        except KafkaException as error:
            return int(error.args[0].code())
        return None
