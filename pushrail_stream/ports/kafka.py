"""The producer of events that ingest calls, and the statistics of a Kafka client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pushrail_stream.core.record import Headers


class ProducerRecord(NamedTuple):
    """A record to be written."""

    key: bytes
    value: bytes
    headers: Headers


class RecordMetadata(NamedTuple):
    """Where Kafka put a record."""

    partition: int
    offset: int


class RecordTooLarge(NamedTuple):
    """A record cannot be written: even compressed, it is larger than the topic accepts."""

    limit: int
    """The topic's ``max.message.bytes``, which count a batch as it is sent."""


class EventProducer(Protocol):
    """Writes events to Kafka: idempotent, acknowledged by all in-sync replicas."""

    async def publish_all(self, records: Sequence[ProducerRecord]) -> Sequence[RecordMetadata | str | RecordTooLarge]:
        """Where Kafka put each record once it has acknowledged it, or why it did not.

        Records that may be too large are written first, one after the other. After the first failure nothing more is
        written.
        """

    async def check(self, timeout_secs: float) -> str:
        """Why events cannot be written at the moment, as far as asking tells; empty when they can."""


class ClientStatistics(NamedTuple):
    """librdkafka's statistics of one Kafka client, which it gives every few seconds."""

    brokers_up: int = 0
    rtt_secs: float = 0.0
    """Mean round trip to the slowest broker."""
    errors: int = 0
    """Requests that could not be sent or were not answered in time, and answers that could not be read."""
    queued: int = 0
    """Records fetched and not handed over, or handed over and not acknowledged."""
    rebalances: int = 0
    """Rebalances of a consumer's group since the start."""
