"""How to reach Kafka, and librdkafka's settings for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Property = str | int | float | bool


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The broker's address, the group, and any librdkafka property of the operator's (SASL, TLS, MSK IAM)."""

    bootstrap_servers: str
    group_id: str = "pushrail-stream"
    client_id: str = "pushrail-stream"
    group_protocol: str = "classic"
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

    def consumer(self) -> dict[str, Any]:
        """Properties of the group's consumer; the numbers are measured (facts: kafka 1)."""
        group: dict[str, Any] = (
            {"group.protocol": "consumer"}  # session and assignor are the broker's there: setting them is an error
            if self.group_protocol == "consumer"
            else {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 1_000,  # a cooperative rebalance takes its second round one heartbeat later
            }
        )
        return {
            **group,
            "fetch.queue.backoff.ms": 20,  # the default of 1 s starves a consumer that works on what it gets
            "queued.max.messages.kbytes": 2_048,  # 2,500 events: a tenth of a second of work
            # Of each partition, compressed: unpacked it is many times that, whatever the queue's limit says. A larger
            # record still comes, alone.
            "max.partition.fetch.bytes": 65_536,
            "fetch.wait.max.ms": 100,
            **self.common(),
            "group.id": self.group_id,
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
            "message.max.bytes": 16 * 2**20,  # the topic decides what is too large, not the client
            **self.common(),
            "acks": "all",
            "enable.idempotence": True,
        }
