"""What the workers wrote to Kafka: dead letters and retry copies, read back when everything is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from tests.chaos.world import PARTITIONS, Place, number_in

_BATCH: Final = 1_000
_ANSWER_SECS: Final = 10.0


class Copy(NamedTuple):
    """One record of the DLQ or of a retry topic."""

    number: int | None
    """The event's; None when the value does not say."""
    place: Place | None
    """Whose delivery it is; None for a record that could not be decoded."""
    at: float
    """Epoch seconds of the Kafka timestamp."""
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        """Header ``pushrail-reason``."""
        return self.headers.get("pushrail-reason", "")

    @property
    def request_id(self) -> str:
        """Header ``pushrail-request-id``."""
        return self.headers.get("pushrail-request-id", "")


def read_copies(bootstrap: str, topic: str) -> Iterator[Copy]:
    """Every copy on a topic."""
    return map(_copy, read_records(bootstrap, topic))


def read_records(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every record of a topic."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "chaos-reader", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        partitions = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
        left = sum(consumer.get_watermark_offsets(p, timeout=_ANSWER_SECS)[1] for p in partitions)
        consumer.assign(partitions)
        while left > 0:
            messages = consumer.consume(min(left, _BATCH), _ANSWER_SECS)
            if not messages:
                raise TimeoutError(f"{left} records of {topic} could not be read")
            for message in messages:
                if message.error() is None:
                    left -= 1
                    yield message
    finally:
        consumer.close()


def _copy(message: Message) -> Copy:
    raw: Any = message.headers() or []
    headers = {name: (value or b"").decode() for name, value in raw}
    destination = headers.get("pushrail-destination")
    place = None if destination is None else Place.of(destination)
    value = message.value()
    return Copy(number_in(value), place, message.timestamp()[1] / 1000, message.key(), value, headers)
