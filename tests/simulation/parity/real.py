"""The kit on a real Apache Kafka: a broker of this machine, changed with the admin API and with its own files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final, final

from confluent_kafka import Consumer, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

from tests.simulation.parity.kit import PATIENCE_SECS, Elsewhere, Kit, Operation, ResourceKind
from tests.support.kafka import topics
from tests.support.kafka.local import LocalKafka
from tests.support.kafka.pair import KafkaPair
from tests.support.kafka.wire import write_raw

BROKER_SETTINGS: Final[Mapping[str, str]] = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "log.cleaner.backoff.ms": "200",
    # A topic's records are gone when the topic is, so that a name is soon free again.
    "log.segment.delete.delay.ms": "100",
}
"""Settings of the broker beside `QUICK_SETTINGS`: rights that can be withdrawn, and quick compaction."""
_ANSWER_SECS: Final = 20.0
_KINDS: Final = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
_OPERATIONS: Final[Mapping[Operation, AclOperation]] = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
}
_EVERYBODY: Final = "User:*"


@final
class RealKit(Kit):
    """Use it in a ``with``: its topics and processes go at the end."""

    def __init__(self, protocol: str, kafka: LocalKafka | KafkaPair) -> None:
        super().__init__(protocol)
        self._kafka = kafka
        self._address: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0}
        self._admin = AdminClient(self._address)
        self._shut: set[int] = set()
        self._cleanup = ExitStack()
        if isinstance(kafka, KafkaPair):
            self._cleanup.callback(kafka.open_all)

    def __enter__(self) -> RealKit:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def consumer(self, properties: Mapping[str, Any]) -> Consumer:
        return Consumer({**properties, **self._address})

    def producer(self, properties: Mapping[str, Any]) -> Producer:
        producer = Producer({**properties, **self._address})
        self._cleanup.callback(_discard, producer)
        return producer

    def admin(self) -> AdminClient:
        return self._admin

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, secs: float) -> None:
        time.sleep(secs)

    def unique(self, stem: str) -> str:
        return topics.unique_name(stem)

    def new_topic(self, partitions: int = 1, **config: str) -> str:
        name = self.unique("topic")
        own = {setting.replace("_", "."): value for setting, value in config.items()}
        self._create(name, partitions, own)
        self._until(lambda: self._is_usable(name, partitions))
        return name

    def delete_topic(self, topic: str) -> None:
        [done] = self._administrator().delete_topics([topic], operation_timeout=_ANSWER_SECS).values()
        done.result(_ANSWER_SECS)
        self._until(lambda: topic not in self._admin.list_topics(timeout=_ANSWER_SECS).topics)

    def create_again(self, topic: str, partitions: int = 1) -> None:
        self._create(topic, partitions)
        self._until(lambda: self._is_usable(topic, partitions))

    def add_partitions(self, topic: str, total: int) -> None:
        [done] = self._admin.create_partitions([NewPartitions(topic, total)]).values()
        done.result(_ANSWER_SECS)
        self._until(lambda: self._is_usable(topic, total))

    def remove_below(self, topic: str, partition: int, offset: int) -> None:
        [done] = self._admin.delete_records([TopicPartition(topic, partition, offset)]).values()
        done.result(_ANSWER_SECS)

    def compact(self, topic: str, left: int) -> None:
        self._until(lambda: self._count(topic) == left)

    def cut_off(self, topic: str, partition: int, offset: int) -> None:
        assert isinstance(self._kafka, LocalKafka)
        self._kafka.cut_off(topic, partition, offset)

    def stop_brokers(self) -> None:
        if isinstance(self._kafka, KafkaPair):
            self._kafka.stop()
        else:
            self._kafka.kill()

    def start_brokers(self) -> None:
        self._kafka.start()

    def shut(self, broker: int) -> None:
        self._shut.add(broker)
        self._pair.lines[broker].shut()

    def open(self, broker: int) -> None:
        self._shut.discard(broker)
        self._pair.lines[broker].open()

    def leave_behind(self) -> None:
        self._pair.to_controller.shut()

    def lose_answers(self, broker: int) -> None:
        self._pair.lines[broker].lose_answers()

    def has_lost_an_answer(self, broker: int) -> bool:
        return self._pair.lines[broker].lost_bytes > 0

    def close_connections(self, broker: int) -> None:
        self._pair.lines[broker].close_connections()

    @property
    def _pair(self) -> KafkaPair:
        assert isinstance(self._kafka, KafkaPair)
        return self._kafka

    def deny(self, kind: ResourceKind, name: str, *operations: Operation) -> None:
        rules = [_rule(kind, name, AclOperation.ALL, AclPermissionType.ALLOW)]
        rules += [_rule(kind, name, _OPERATIONS[one], AclPermissionType.DENY) for one in operations]
        for done in self._admin.create_acls(rules).values():
            done.result(_ANSWER_SECS)
        self._until(lambda: not self._rights(kind, name) & {_OPERATIONS[one] for one in operations})

    def allow(self, kind: ResourceKind, name: str) -> None:
        before = self._rights(kind, name)
        anything: Any = None
        rules = AclBindingFilter(
            _KINDS[kind], name, ResourcePatternType.LITERAL, anything, anything, AclOperation.ANY, AclPermissionType.ANY
        )
        [done] = self._admin.delete_acls([rules]).values()
        done.result(_ANSWER_SECS)
        self._until(lambda: self._rights(kind, name) > before)

    def write_raw(self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        write_raw(self._kafka.bootstrap_servers, topic, key, value, headers)

    def write_unreadable(self, topic: str, records: int) -> None:
        producer = self.producer({
            "compression.type": "zstd", "linger.ms": 60_000, "batch.size": 100_000_000,
            "message.max.bytes": 100_000_000,
        })  # fmt: skip
        for _ in range(records):
            producer.produce(topic, b"abcdefgh" * 112_500, partition=0)
        assert producer.flush(_ANSWER_SECS) == 0

    def start_elsewhere(self, properties: Mapping[str, Any], topic: str) -> Elsewhere:
        member = _Process({**properties, **self._address}, topic)
        self._cleanup.callback(member.kill)
        return member

    def _until(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE_SECS
        while not condition():
            assert time.monotonic() < until, "the broker did not follow"
            time.sleep(0.05)

    def _create(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        brokers = 1 if isinstance(self._kafka, LocalKafka) else len(self._kafka.lines)
        places = [[1 + number % brokers] for number in range(partitions)]
        new = NewTopic(topic, num_partitions=partitions, replica_assignment=places, config=dict(config or {}))
        [done] = self._administrator().create_topics([new], operation_timeout=_ANSWER_SECS).values()
        done.result(_ANSWER_SECS)

    def _administrator(self) -> AdminClient:
        """The client of an administrator, which takes a broker that can be reached for the controller."""
        self._until(lambda: self._admin.list_topics(timeout=_ANSWER_SECS).controller_id not in self._shut)
        return self._admin

    def _is_usable(self, topic: str, partitions: int) -> bool:
        """Whether a topic has this number of partitions, and each has a leader that knows it."""
        if len(self._admin.list_topics(topic, timeout=_ANSWER_SECS).topics[topic].partitions) != partitions:
            return False
        latest: Any = OffsetSpec
        answers = self._admin.list_offsets({TopicPartition(topic, n): latest.latest() for n in range(partitions)})
        with suppress(KafkaException):
            return all(answer.result(_ANSWER_SECS) for answer in answers.values())
        return False

    def _rights(self, kind: ResourceKind, name: str) -> set[AclOperation]:
        with suppress(KafkaException):
            if kind == "topic":
                wanted = TopicCollection([name])
                told = self._admin.describe_topics(wanted, include_authorized_operations=True)[name]
            else:
                told = self._admin.describe_consumer_groups([name], include_authorized_operations=True)[name]
            return set(told.result(_ANSWER_SECS).authorized_operations)
        return set()

    def _count(self, topic: str) -> int:
        """The records of partition 0."""
        properties = {"group.id": "count", "enable.partition.eof": True, "enable.auto.commit": False}
        with self.consumer(properties) as consumer:
            consumer.assign([TopicPartition(topic, 0, 0)])
            found = 0
            while True:
                message = consumer.poll(1.0)
                if message is not None and message.error() is not None:
                    return found
                found += message is not None


@final
class _Process:
    """A member in a process of its own."""

    def __init__(self, properties: Mapping[str, Any], topic: str) -> None:
        command = [sys.executable, "-m", "tests.simulation.parity.elsewhere", json.dumps(dict(properties)), topic]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._diary: list[str] = []

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            told, _ = self._process.communicate()
            self._diary = told.splitlines()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def diary(self) -> list[str]:
        return self._diary


def _rule(kind: ResourceKind, name: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(_KINDS[kind], name, ResourcePatternType.LITERAL, _EVERYBODY, "*", operation, permission)


def _discard(producer: Producer) -> None:
    """Let go of a producer without the complaint of librdkafka about records that were not written."""
    with suppress(KafkaException):
        producer.purge()
        producer.flush(1.0)
