"""The vendor's producer: it knows where Kafka put each record of the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple, final

from confluent_kafka import KafkaError, Message, Producer

from pushrail_stream.errors import OperatorError
from pushrail_stream.sandbox.demo.events import Planned

_MAX_MESSAGE_BYTES: Final = 4 * 2**20
"""Room for the record that exceeds a PutEvents request."""
_ANSWER_SECS: Final = 10.0
"""Wait for Kafka's acknowledgements."""


class Produced(NamedTuple):
    """A record that Kafka acknowledged."""

    planned: Planned
    timestamp_ms: int


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
        self._failed: list[str] = []
        self.produced: dict[str, Produced] = {}
        """By ``topic/partition/offset``."""

    def send(self, planned: Planned) -> None:
        """Produce one record, which is in ``produced`` after `flush`."""
        now_ms = time.time_ns() // 1_000_000
        self._producer.produce(
            self._topic,
            planned.value,
            planned.kafka_key,
            timestamp=now_ms,
            on_delivery=self._report(Produced(planned, now_ms)),
        )
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait for Kafka's acknowledgements. Raises `OperatorError` when one is missing."""
        left = self._producer.flush(_ANSWER_SECS)
        if left or self._failed:
            missing = left + len(self._failed)
            raise OperatorError(f"Kafka did not take {missing} records: {', '.join(self._failed[:1])}")

    def _report(self, produced: Produced) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.produced[f"{self._topic}/{message.partition()}/{message.offset()}"] = produced
            else:
                self._failed.append(f"{produced.planned.key}: {error}")

        return report
