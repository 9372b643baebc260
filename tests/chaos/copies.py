"""Dead letters and retry copies that the workers wrote, read back at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from confluent_kafka import Message

from tests.chaos.commits import Position
from tests.chaos.records import read_records
from tests.chaos.world import Place, number_in


class Copy(NamedTuple):
    """One record of the DLQ or of a retry topic."""

    number: int | None
    """The event's; None when the value does not say."""
    place: Place | None
    """The destination of the delivery; None for a record that could not be decoded."""
    at: float
    """Epoch seconds of the Kafka timestamp."""
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    position: Position

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


def _copy(message: Message) -> Copy:
    raw: Any = message.headers() or []
    headers = {name: (value or b"").decode() for name, value in raw}
    destination = headers.get("pushrail-destination")
    place = None if destination is None else Place.of(destination)
    value = message.value()
    # A record that was read lies somewhere; the library's types allow for others.
    position = Position(*cast("tuple[str, int, int]", (message.topic(), message.partition(), message.offset())))
    return Copy(number_in(value), place, message.timestamp()[1] / 1000, message.key(), value, headers, position)
