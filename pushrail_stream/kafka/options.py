"""How to reach Kafka, and librdkafka's properties for every client we open.

Each client's properties come in three layers: our defaults, then the operator's own (`kafka.client`), then the few that
the engine must decide. The last layer holds only properties that `settings.client` refuses, so that every property an
operator may set is obeyed. The operator's come after our defaults also in the order of the mapping: librdkafka takes
them one by one, and a property's other name then wins too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pushrail_stream.kafka.numbers import whole
from pushrail_stream.kafka.properties import CONSUMER_ONLY, PRODUCER_ONLY
from pushrail_stream.kafka.statistics import INTERVAL_MS
from pushrail_stream.kafka.trial import Client, check_clients
from pushrail_stream.settings import Settings

Property = str | int | float | bool
_METADATA_MS: Final = 15_000
"""How often a client asks for topics and partitions. A new partition has to be read within 30 s of its creation: this
is half of it, the other half is for the group's rebalance."""
_COPY_MS: Final = 30_000
"""How long a dead letter or a retry copy is tried before the engine tries it anew."""
_UNPACKED_BYTES: Final = 384 * 2**20
"""The most bytes that librdkafka makes of one zstd batch; it does not limit the other codecs. A partition with a
larger batch stands still. A worker with 768 MiB, its limit in deploy/kubernetes, can bear this much. With more, one
batch would end worker after worker for want of memory, and all their partitions with them."""
_LOG_MS: Final = 600_000
"""How long the attempts log keeps a record that Kafka does not take: an outage within it only fills the buffer."""
_TRANSACTION_MS: Final = 15_000
"""How long readers of committed records wait for a replay that has died."""
_SOCKET_MARGIN_MS: Final = 100
"""librdkafka wants a transaction to last this much longer than one request."""


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The broker's address, the group, and any librdkafka property of the operator's (SASL, TLS, MSK IAM)."""

    bootstrap_servers: str
    group_id: str = "pushrail-stream"
    client_id: str = "pushrail-stream"
    group_protocol: str = "classic"
    group_instance_id: str | None = None
    client: Mapping[str, Property] = field(default_factory=dict, repr=False)

    def admin(self, defaults: Mapping[str, Property] | None = None) -> dict[str, Any]:
        """Properties of a client that asks about topics and groups."""
        return self._client(CONSUMER_ONLY | PRODUCER_ONLY, defaults or {}, {})

    def events(self) -> ConsumerOptions:
        """For the events topic; the numbers are measured."""
        # 2 MiB are 2,500 events: a tenth of a second of work.
        return ConsumerOptions(self, self.group_id, batch=500, queue_kib=2_048, fetch_bytes=32_768)

    def retries(self) -> ConsumerOptions:
        """For the retry topics: a group of its own, so that neither waits for the other's rebalances.

        Little is fetched ahead: a partition is paused until its head is due, and that throws away what was fetched.
        """
        return ConsumerOptions(
            self, f"{self.group_id}.retry", batch=100, queue_kib=512, fetch_bytes=16_384, always_from_the_earliest=True
        )

    def member(
        self, group_id: str, defaults: Mapping[str, Property], *, always_from_the_earliest: bool
    ) -> dict[str, Any]:
        """Properties of a member of a consumer group.

        ``always_from_the_earliest``: whether the member begins at the earliest offset where its group has none,
        whatever the operator wants for the others.
        """
        classic: dict[str, Property] = {
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 1_000,  # a cooperative rebalance takes its second round one heartbeat later
        }
        owned: dict[str, Any] = {
            "group.id": group_id,
            "statistics.interval.ms": INTERVAL_MS,  # they alone tell whether the group's coordinator is in reach
            **_READING,
        }
        if self.group_protocol == "consumer":
            classic = {}  # session and assignor are the broker's there: setting them is an error
            owned["group.protocol"] = "consumer"
        else:
            owned["partition.assignment.strategy"] = "cooperative-sticky"
        if self.group_instance_id is not None:
            owned["group.instance.id"] = self.group_instance_id
        if always_from_the_earliest:
            owned["auto.offset.reset"] = "earliest"
        mine = {
            **classic,
            "fetch.queue.backoff.ms": 20,  # the default of 1 s starves a consumer that works on what it gets
            "fetch.wait.max.ms": 100,
            "auto.offset.reset": "earliest",
            "receive.message.max.bytes": _UNPACKED_BYTES,
            **defaults,
        }
        return self._client(PRODUCER_ONLY, mine, owned)

    def reader(self, group_id: str, defaults: Mapping[str, Property]) -> dict[str, Any]:
        """Properties of a consumer that joins no group. It is given its positions, so it never resets an offset.

        librdkafka wants a ``group_id`` all the same.
        """
        owned = {"group.id": group_id, "auto.offset.reset": "earliest", **_READING}
        mine = {"receive.message.max.bytes": _UNPACKED_BYTES, **defaults}
        return self._client(PRODUCER_ONLY | {"auto.offset.reset"}, mine, owned)

    def fetch_sizes(self, size: int) -> dict[str, Property]:
        """Properties of a consumer that fetches ``size`` compressed bytes at once from each broker, or one batch."""
        # librdkafka refuses to fetch less at once than the largest message that it would produce, even in a consumer.
        longest = whole(self.client.get("message.max.bytes")) or size
        return {
            "max.partition.fetch.bytes": size,
            "fetch.max.bytes": max(size, longest),
            "message.max.bytes": size,
        }

    def producer(self) -> dict[str, Any]:
        """Properties of the producer of records that must not be lost."""
        return self._producer({"linger.ms": 5}, {"delivery.timeout.ms": _COPY_MS})

    def event_producer(self, timeout_secs: float) -> dict[str, Any]:
        """Properties of ingest's producer: a record that Kafka has not acknowledged after that time has failed."""
        return self._producer({"linger.ms": 5}, {"delivery.timeout.ms": round(timeout_secs * 1000)})

    def log(self) -> dict[str, Any]:
        """Properties of the attempts log's producer. Nobody waits for it, and it buffers little."""
        defaults = {"linger.ms": 200, "queue.buffering.max.kbytes": 4_096}
        return self._producer(defaults, {"delivery.timeout.ms": _LOG_MS, "delivery.report.only.error": True})

    def transactions(self, transactional_id: str) -> dict[str, Any]:
        """Properties of a producer of transactions. A record that takes longer could not be committed any more."""
        socket_ms = whole(self.client.get("socket.timeout.ms")) or 0
        timeout_ms = max(_TRANSACTION_MS, socket_ms + _SOCKET_MARGIN_MS)
        owned: dict[str, Property] = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
            "delivery.timeout.ms": timeout_ms,
        }
        return self._producer({"linger.ms": 5}, owned)

    def _producer(self, defaults: Mapping[str, Property], owned: Mapping[str, Property]) -> dict[str, Any]:
        mine = {
            "compression.type": "zstd",
            # The choice of Java's clients. With librdkafka's default, a key that both write would lie in two
            # partitions.
            "partitioner": "murmur2_random",
            # The topic decides what is too large, and it counts compressed bytes where librdkafka counts them before:
            # at less than its maximum it would refuse the copy of a record that Kafka has taken.
            "message.max.bytes": 1_000_000_000,
            **defaults,
        }
        return self._client(CONSUMER_ONLY, mine, {"acks": "all", "enable.idempotence": True, **owned})

    def _client(
        self, others: frozenset[str], defaults: Mapping[str, Property], owned: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The layers put together, without the operator's properties that only ``others`` know.

        librdkafka's own log lines are off unless the operator wants them: errors come through its error callback.
        """
        return {
            "client.id": self.client_id,
            "log_level": 0,
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 5_000,
            "topic.metadata.refresh.interval.ms": _METADATA_MS,
            **defaults,
            **{name: value for name, value in self.client.items() if name not in others},
            "bootstrap.servers": self.bootstrap_servers,
            **owned,
        }


_READING: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
}
"""Every consumer commits explicitly or not at all, and reads only committed records."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How one consumer group's member reads."""

    kafka: KafkaOptions
    group_id: str
    batch: int
    """Records handed over at once, at most."""
    queue_kib: int
    """Nothing more is fetched while this much waits, over all partitions. It counts decompressed bytes."""
    fetch_bytes: int
    """Fetched at once from each broker, compressed. This bounds memory, since the answer to a fetch is decompressed
    whole: well compressed events grow a thousandfold. A larger batch still comes, alone."""
    always_from_the_earliest: bool = False
    """Retry topics hold nothing but deliveries of ours: no reset may pass over one, and no start may fail for it."""

    def properties(self) -> dict[str, Any]:
        """Librdkafka's properties; the operator's own win."""
        sizes: dict[str, Property] = {"queued.max.messages.kbytes": self.queue_kib}
        return self.kafka.member(
            self.group_id,
            sizes | self.kafka.fetch_sizes(self.fetch_bytes),
            always_from_the_earliest=self.always_from_the_earliest,
        )


def kafka_options(settings: Settings, client_id: str = "pushrail-stream") -> KafkaOptions:
    """How to reach Kafka, from the settings. Raises `UsageError` when librdkafka refuses ``kafka.client``."""
    kafka = settings.kafka
    instance_id = kafka.group_instance_id
    if instance_id is not None:
        instance_id += client_id.removeprefix("pushrail-stream")  # worker 2 of several is pushrail-stream-2
    options = KafkaOptions(
        kafka.bootstrap_servers, kafka.group_id, client_id, kafka.group_protocol, instance_id, kafka.client.reveal()
    )
    # The others differ from these in nothing that librdkafka looks at, or only by longer time-outs.
    check_clients(
        options.client,
        {
            Client.CONSUMER: (options.events().properties(),),
            Client.PRODUCER: (options.transactions("trial"), options.event_producer(settings.ingest.timeout_secs)),
        },
    )
    return options
