"""Kafka as seen from outside the worker: the vendor's producer, the dead letters, the group's committed offsets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from pushrail_stream.core.record import Origin
from pushrail_stream.errors import OperatorError
from pushrail_stream.sandbox.demo.events import Planned
from pushrail_stream.settings.model import TopicsSettings

_MAX_MESSAGE_BYTES: Final = 4 * 2**20
"""Room for the record that exceeds a PutEvents request."""
_ANSWER_SECS: Final = 10.0
"""Wait for one answer of the broker."""
_READ_SECS: Final = 20.0
"""Wait for all dead letters."""


class Produced(NamedTuple):
    """A record that Kafka acknowledged."""

    planned: Planned
    timestamp_ms: int


class DeadRecord(NamedTuple):
    """A record of the dead-letter topic and the facts in its headers."""

    value: bytes
    reason: str
    destination: str | None
    origin: str


class Offsets(NamedTuple):
    """The group's committed offset in a partition, and the partition's end."""

    committed: int
    end: int


class KafkaState(NamedTuple):
    """Kafka's records and offsets after a run."""

    produced: Mapping[Origin, Produced]
    dead_records: Sequence[DeadRecord]
    offsets: Mapping[int, Offsets]
    """By partition of the events topic."""


@final
class VendorProducer:
    """A plain producer, such as the vendor's own service uses."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "compression.type": "zstd",
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "log_level": 0,
            }
        )
        self.produced: dict[Origin, Produced] = {}
        self.failed: list[str] = []

    def send(self, planned: Planned) -> None:
        """Produce one record, which is in ``produced`` or ``failed`` after `flush`."""
        now_ms = time.time_ns() // 1_000_000
        self._producer.produce(
            self._topic,
            planned.value,
            planned.kafka_key,
            timestamp=now_ms,
            on_delivery=self._report(planned, now_ms),
        )
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait for Kafka's acknowledgements. Raises `OperatorError` when one is missing."""
        left = self._producer.flush(_ANSWER_SECS)
        if left or self.failed:
            raise OperatorError(f"Kafka did not take {left + len(self.failed)} records: {', '.join(self.failed[:1])}")

    def _report(self, planned: Planned, timestamp_ms: int) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None or partition is None or offset is None:
                self.failed.append(f"{planned.key}: {error}")
            else:
                origin = Origin(self._topic, partition, offset)
                self.produced[origin] = Produced(planned, timestamp_ms)

        return report


def read_kafka(bootstrap_servers: str, topics: TopicsSettings, group_id: str, producer: VendorProducer) -> KafkaState:
    """Read dead letters and committed offsets. Raises `OperatorError` when a topic cannot be read to its end."""
    dead_records = _read_dead_letters(bootstrap_servers, topics.dlq)
    return KafkaState(producer.produced, dead_records, _read_offsets(bootstrap_servers, topics.events, group_id))


def _read_dead_letters(bootstrap_servers: str, topic: str) -> list[DeadRecord]:
    """Read the dead-letter topic to its end. Raises `OperatorError` when this takes too long."""
    consumer = _consumer(bootstrap_servers, "sandbox-dlq-reader")
    try:
        left = {partition: end for partition, end in _ends(consumer, topic).items() if end}
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in left])
        found: list[DeadRecord] = []
        deadline = time.monotonic() + _READ_SECS
        while left and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.2):
                _take(message, left, found)
    finally:
        consumer.close()
    if left:
        raise OperatorError(f"{topic} could not be read to its end: partitions {sorted(left)}")
    return found


def _read_offsets(bootstrap_servers: str, topic: str, group_id: str) -> dict[int, Offsets]:
    """Return committed offset (-1 for none) and end of every partition that has records."""
    consumer = _consumer(bootstrap_servers, group_id)
    try:
        ends = {partition: end for partition, end in _ends(consumer, topic).items() if end}
        known = consumer.committed([TopicPartition(topic, partition) for partition in ends], timeout=_ANSWER_SECS)
        return {p.partition: Offsets(max(p.offset, -1), ends[p.partition]) for p in known}
    finally:
        consumer.close()


def _consumer(bootstrap_servers: str, group_id: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group_id,
            "enable.auto.commit": False,
            "fetch.message.max.bytes": _MAX_MESSAGE_BYTES,
            "fetch.queue.backoff.ms": 20,
            "log_level": 0,
        }
    )


def _ends(consumer: Consumer, topic: str) -> dict[int, int]:
    partitions = consumer.list_topics(topic, timeout=_ANSWER_SECS).topics[topic].partitions
    ends: dict[int, int] = {}
    for partition in sorted(partitions):
        known: Any = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ANSWER_SECS)
        ends[partition] = known[1]
    return ends


def _take(message: Message, left: dict[int, int], found: list[DeadRecord]) -> None:
    partition, offset = message.partition(), message.offset()
    if message.error() is not None or partition is None or offset is None:
        return
    headers: Mapping[str, Any] = dict(message.headers() or ())
    destination = headers.get("pushrail-destination")
    found.append(
        DeadRecord(
            message.value() or b"",
            headers.get("pushrail-reason", b"").decode(),
            None if destination is None else destination.decode(),
            headers.get("pushrail-origin", b"").decode(),
        )
    )
    if offset + 1 >= left.get(partition, 0):
        left.pop(partition, None)
