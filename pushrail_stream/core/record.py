"""A record: what Kafka gave, before anybody looked inside."""

from __future__ import annotations

from typing import Final, NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]
NOT_UTF8: Final = "\udcff"
"""Stands for the name of a header that is not UTF-8. It cannot be encoded, so that no header can have this name."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Origin(NamedTuple):
    """Where the event record lies: it names the event for ever, through every hop."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Record(NamedTuple):
    """One Kafka record. A tuple and not a dataclass: it is made once per record on the hot path."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    """Epoch milliseconds of the Kafka timestamp."""

    @property
    def origin(self) -> Origin:
        """This record's own position."""
        return Origin(self.topic, self.partition, self.offset)
