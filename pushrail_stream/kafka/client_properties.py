"""librdkafka's properties for every client that we open.

They come in three layers: our defaults, then the operator's own (`kafka.client`), then the few that the engine must
decide. The last layer holds only properties that `settings.client` refuses, so every property that an operator may set
is obeyed. The operator's also come after our defaults in the order of the mapping: librdkafka takes them one by one,
so a second name of a property wins too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer

from pushrail_stream.kafka.librdkafka import (
    CONSUMER_ONLY,
    OAUTH_CALLBACK,
    PRODUCER_ONLY,
    parse_number,
    try_clients,
)
from pushrail_stream.kafka.statistics import INTERVAL_MS
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import KafkaSettings, Settings

_Properties = Mapping[str, str | float]
CLIENT_ID: Final = "pushrail-stream"
_METADATA_MS: Final = 15_000
"""Time between two metadata requests of a client. A new partition must be read within 30 s of its creation: half of it
passes here, the other half is for the group's rebalance."""
_COPY_MS: Final = 30_000
"""Longest time for writing a dead letter or a retry copy, in milliseconds; then the engine tries again."""
_RECEIVED_BYTES: Final = 2**31 - 1
"""Largest size of an answer of a broker, and of a zstd batch after decompression: the highest value that librdkafka
takes. A partition with a larger batch stands still. librdkafka does not limit the other codecs."""
_LOG_MS: Final = 600_000
"""Longest time for writing an attempt record, in milliseconds. A shorter outage of Kafka only fills the buffer."""
_FLEET_MS: Final = 10_000
"""Longest time for writing a worker's state, a request or an answer, in milliseconds."""
_TRANSACTION_MS: Final = 15_000
"""Longest time that readers of committed records wait for a replay that has died."""
_SOCKET_MARGIN_MS: Final = 100
"""librdkafka requires a transaction to last this much longer than one request."""
_READING: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
}
"""Every consumer commits explicitly or not at all, and reads only committed records."""


_accepted: list[Settings] = []
"""The settings that librdkafka accepted last: the trial of a command's settings is made once."""


def checked_kafka(settings: Settings, client_id: str = CLIENT_ID) -> KafkaSettings:
    """The section of Kafka for clients of this name. Raises `UsageError` if librdkafka refuses ``kafka.client``."""
    kafka = settings.kafka
    instance_id = kafka.group_instance_id
    if instance_id is not None:
        instance_id += client_id.removeprefix(CLIENT_ID)  # worker 2 of several is pushrail-stream-2
    own = kafka.client.reveal()
    named = ClientProperties({"client.id": client_id, **own})
    kafka = kafka.model_copy(update={"client": named, "group_instance_id": instance_id})
    if not any(settings is accepted for accepted in _accepted):
        # The other clients differ from these in nothing that librdkafka checks, or only by longer time-outs.
        try_clients(
            own,
            [
                (Consumer, events_consumer(kafka).properties()),
                (Producer, transactions_producer(kafka, "trial")),
                (Producer, event_producer(kafka, settings.ingest.timeout_secs)),
            ],
        )
        _accepted[:] = [settings]
    return kafka


def admin(kafka: KafkaSettings, defaults: _Properties | None = None) -> dict[str, Any]:
    """Properties of a client that asks about topics and groups. It reports no errors of its own."""
    return _client(kafka, CONSUMER_ONLY | PRODUCER_ONLY, defaults or {}, {"error_cb": _ignore})


class ConsumerProfile(NamedTuple):
    """The properties with which a member of a consumer group reads."""

    kafka: KafkaSettings
    group_id: str
    batch: int
    """Most records that are handed over at once."""
    queue_kib: int
    """Decompressed KiB, over all partitions, above which nothing more is fetched."""
    fetch_bytes: int
    """Compressed bytes fetched at once from each broker. This bounds memory, since an answer is decompressed whole
    and well compressed events grow a thousandfold. A larger batch still comes, alone."""
    always_earliest: bool = False
    """Whether each reset of an offset goes to the first record, whatever the operator sets: the topics hold only our
    deliveries, and a reset must neither pass over one nor fail the start."""

    def properties(self) -> dict[str, Any]:
        """The consumer's properties."""
        ours = {
            "fetch.queue.backoff.ms": 20,  # the default of 1 s starves a busy consumer
            "fetch.wait.max.ms": 100,
            "auto.offset.reset": "earliest",
            "receive.message.max.bytes": _RECEIVED_BYTES,
            "queued.max.messages.kbytes": self.queue_kib,
            **fetch_sizes(self.kafka, self.fetch_bytes),
        }
        owned: dict[str, Any] = {
            "group.id": self.group_id,
            "statistics.interval.ms": INTERVAL_MS,  # only they tell whether the group's coordinator is in reach
            **_READING,
        }
        if self.kafka.group_protocol == "classic":
            owned["partition.assignment.strategy"] = "cooperative-sticky"
            # A cooperative rebalance takes its second round one heartbeat later.
            ours |= {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 1_000}
        else:
            owned["group.protocol"] = "consumer"  # session and assignor are the broker's: setting them is an error
        if self.kafka.group_instance_id is not None:
            owned["group.instance.id"] = self.kafka.group_instance_id
        if self.always_earliest:
            owned["auto.offset.reset"] = "earliest"
        return _client(self.kafka, PRODUCER_ONLY, ours, owned)


def events_consumer(kafka: KafkaSettings) -> ConsumerProfile:
    """The member that reads the events topic; the numbers are measured."""
    # 2 MiB are 2,500 events: a tenth of a second of work.
    return ConsumerProfile(kafka, kafka.group_id, batch=500, queue_kib=2_048, fetch_bytes=32_768)


def retries_consumer(kafka: KafkaSettings) -> ConsumerProfile:
    """The member that reads the retry topics, in a group of its own: neither waits for the other's rebalances.

    It fetches little ahead: a partition is paused until its head is due, and a pause discards what was fetched.
    """
    group = f"{kafka.group_id}.retry"
    return ConsumerProfile(kafka, group, batch=100, queue_kib=512, fetch_bytes=16_384, always_earliest=True)


def reader(kafka: KafkaSettings, group_id: str, defaults: _Properties) -> dict[str, Any]:
    """Properties of a consumer that joins no group; librdkafka requires a ``group_id`` all the same.

    The reader is given its positions, so it never resets an offset. It reports no errors of its own.
    """
    owned = {"group.id": group_id, "auto.offset.reset": "earliest", "error_cb": _ignore, **_READING}
    ours = {"receive.message.max.bytes": _RECEIVED_BYTES, **defaults}
    return _client(kafka, PRODUCER_ONLY | {"auto.offset.reset"}, ours, owned)


def fetch_sizes(kafka: KafkaSettings, size: int) -> _Properties:
    """Properties of a consumer that fetches ``size`` compressed bytes at once from each broker, or one batch."""
    # librdkafka refuses to fetch less at once than the largest message that it would produce, even in a consumer.
    longest = parse_number(kafka.client.root.get("message.max.bytes")) or size
    return {"max.partition.fetch.bytes": size, "fetch.max.bytes": max(size, longest), "message.max.bytes": size}


def copies_producer(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties of the producer of records that must not be lost."""
    return _producer(kafka, {"delivery.timeout.ms": _COPY_MS})


def event_producer(kafka: KafkaSettings, timeout_secs: float) -> dict[str, Any]:
    """Properties of ingest's producer: a record that Kafka has not acknowledged after that time has failed."""
    return _producer(kafka, {"delivery.timeout.ms": round(timeout_secs * 1000)})


def log_producer(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties of the producer of the attempts log. Nothing waits for it, and it buffers little."""
    owned = {"delivery.timeout.ms": _LOG_MS, "delivery.report.only.error": True}
    return _producer(kafka, owned, {"linger.ms": 200, "queue.buffering.max.kbytes": 4_096})


def fleet_producer(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties of the producer of workers' states and of control: what is late by seconds is of no use."""
    return _producer(kafka, {"delivery.timeout.ms": _FLEET_MS}, {"queue.buffering.max.kbytes": 4_096})


def transactions_producer(kafka: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """Properties of a producer of transactions. A record that takes longer could not be committed any more."""
    socket_ms = parse_number(kafka.client.root.get("socket.timeout.ms")) or 0
    timeout_ms = max(_TRANSACTION_MS, socket_ms + _SOCKET_MARGIN_MS)
    timeouts = {"transaction.timeout.ms": timeout_ms, "delivery.timeout.ms": timeout_ms}
    return _producer(kafka, {"transactional.id": transactional_id, **timeouts})


def _producer(kafka: KafkaSettings, owned: _Properties, defaults: _Properties | None = None) -> dict[str, Any]:
    ours = {
        "linger.ms": 5,
        "compression.type": "zstd",
        # The choice of Java's clients. With librdkafka's default, a key that both write would lie in two partitions.
        "partitioner": "murmur2_random",
        # The topic decides what is too large, and it counts compressed bytes where librdkafka counts them before:
        # below its maximum it would refuse the copy of a record that Kafka has accepted.
        "message.max.bytes": 1_000_000_000,
        **(defaults or {}),
    }
    always = {"acks": "all", "enable.idempotence": True, "error_cb": _ignore}
    return _client(kafka, CONSUMER_ONLY, ours, {**always, **owned})


def _client(
    kafka: KafkaSettings, others: frozenset[str], defaults: _Properties, owned: Mapping[str, Any]
) -> dict[str, Any]:
    """The layers put together, without the operator's properties that only ``others`` know.

    librdkafka writes no log lines unless the operator wants them: errors come through its error callback.
    """
    return {
        "client.id": CLIENT_ID,
        "log_level": 0,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 5_000,
        "topic.metadata.refresh.interval.ms": _METADATA_MS,
        **defaults,
        **{name: value for name, value in kafka.client.reveal().items() if name not in others},
        "bootstrap.servers": kafka.bootstrap_servers,
        **_login(kafka),
        **owned,
    }


def _login(kafka: KafkaSettings) -> Mapping[str, Any]:
    """The properties of a login that `kafka.auth` names. A thread of librdkafka asks for tokens as they end."""
    if kafka.auth is None:
        return {}
    region = kafka.auth.region

    def token(_config: str) -> tuple[str, float]:
        from pushrail_stream.msk_iam import msk_token  # noqa: PLC0415 - botocore is imported for this login only

        return msk_token(region)

    return {"security.protocol": "SASL_SSL", "sasl.mechanisms": "OAUTHBEARER", OAUTH_CALLBACK: token}


def _ignore(_error: KafkaError) -> None:
    """Keep an error off stderr: the call that meets it raises or reports it."""
