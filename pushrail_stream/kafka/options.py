"""How to reach Kafka, and librdkafka's settings for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pushrail_stream.kafka.statistics import INTERVAL_MS
from pushrail_stream.settings import Settings

Property = str | int | float | bool


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The broker's address, the group, and any librdkafka property of the operator's (SASL, TLS, MSK IAM)."""

    bootstrap_servers: str
    group_id: str = "pushrail-stream"
    client_id: str = "pushrail-stream"
    group_protocol: str = "classic"
    group_instance_id: str | None = None
    client: Mapping[str, Property] = field(default_factory=dict, repr=False)

    def common(self) -> dict[str, Any]:
        """Properties of every client. librdkafka's own log lines are off: errors come through its error callback."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            "log_level": 0,
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 5_000,
            **self.client,
        }

    def events(self) -> ConsumerOptions:
        """For the events topic; the numbers are measured (facts: kafka 1)."""
        # 2 MiB are 2,500 events: a tenth of a second of work. 64 KiB of each partition, compressed: unpacked it is many
        # times that, whatever the queue's limit says. A larger record still comes, alone.
        return ConsumerOptions(self, self.group_id, batch=500, queue_kib=2_048, fetch_bytes=65_536)

    def retries(self) -> ConsumerOptions:
        """For the retry topics: a group of its own, so that neither waits for the other's rebalances.

        Little is fetched ahead: a partition is paused until its head is due, and that throws away what was fetched.
        """
        return ConsumerOptions(self, f"{self.group_id}.retry", batch=100, queue_kib=512, fetch_bytes=32_768)

    def consumer(self) -> dict[str, Any]:
        """Properties of any member of a consumer group."""
        group: dict[str, Any] = (
            {"group.protocol": "consumer"}  # session and assignor are the broker's there: setting them is an error
            if self.group_protocol == "consumer"
            else {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 1_000,  # a cooperative rebalance takes its second round one heartbeat later
            }
        )
        if self.group_instance_id is not None:
            group["group.instance.id"] = self.group_instance_id
        return {
            **group,
            "fetch.queue.backoff.ms": 20,  # the default of 1 s starves a consumer that works on what it gets
            "fetch.wait.max.ms": 100,
            **self.common(),
            "statistics.interval.ms": INTERVAL_MS,  # they alone tell whether the group's coordinator is in reach
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }

    def producer(self) -> dict[str, Any]:
        """Properties of the producer of records that must not be lost."""
        return {
            "linger.ms": 5,
            "compression.type": "zstd",
            "delivery.timeout.ms": 30_000,
            # The topic decides what is too large, and it counts compressed bytes where librdkafka counts them before:
            # at less than its maximum it would refuse the copy of a record that Kafka has taken.
            "message.max.bytes": 1_000_000_000,
            **self.common(),
            "acks": "all",
            "enable.idempotence": True,
        }


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How one consumer group's member reads."""

    kafka: KafkaOptions
    group_id: str
    batch: int
    """Records handed over at once."""
    queue_kib: int
    """Fetched ahead, over all partitions."""
    fetch_bytes: int
    """Fetched at once of each partition, compressed."""

    def properties(self) -> dict[str, Any]:
        """Librdkafka's properties; the operator's own win."""
        return {
            "queued.max.messages.kbytes": self.queue_kib,
            "max.partition.fetch.bytes": self.fetch_bytes,
            **self.kafka.consumer(),
            "group.id": self.group_id,
        }


def kafka_options(settings: Settings, client_id: str = "pushrail-stream") -> KafkaOptions:
    """How to reach Kafka, from the settings."""
    kafka = settings.kafka
    instance_id = kafka.group_instance_id
    if instance_id is not None:
        instance_id += client_id.removeprefix("pushrail-stream")  # worker 2 of several is pushrail-stream-2
    return KafkaOptions(
        kafka.bootstrap_servers, kafka.group_id, client_id, kafka.group_protocol, instance_id, kafka.client.reveal()
    )
