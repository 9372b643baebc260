"""A record: a message from Kafka, before it is decoded."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]
NOT_UTF8: Final = "\udcff"
"""Placeholder for a header's name that is not UTF-8. It cannot be encoded, so no header can have this name."""

NO_TOPIC_ID: Final = "A" * 22
"""Zeros: Kafka's "no id". No topic has it."""
MAX_OFFSET: Final = 2**63 - 1
"""Kafka's offsets have 64 bits."""
_MAX_PARTITION: Final = 2**31 - 1
"""Kafka's partition numbers have 32 bits."""
_NUMBER: Final = re.compile("[0-9]{1,19}")
"""Nineteen digits hold every 64-bit number; longer ones are refused before they are converted."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class TopicIdentity(NamedTuple):
    """Distinguishes topics of the same name on other clusters, or before a topic was recreated."""

    cluster_id: str
    topic_id: str
    """Kafka's id of the topic, as Kafka's tools print it."""


class Origin(NamedTuple):
    """Position of the event's record. It identifies the event through every retry and replay."""

    topic: str
    partition: int
    offset: int
    topic_id: str | None = None
    """Kafka's id of the topic, as Kafka's tools print it. A topic that is deleted and created again has another id, and
    its offsets are those of other records. None when the broker has no topic ids."""

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def parse_offset(text: str) -> int | None:
    """The offset that decimal digits stand for; None for any other text."""
    offset = int(text) if _NUMBER.fullmatch(text) else None
    return offset if offset is None or offset <= MAX_OFFSET else None


def parse_origin(text: str) -> Origin | None:
    """The position that ``topic/partition/offset`` names; None for any other text."""
    topic, *numbers = text.rsplit("/", 2)
    partition, offset = map(parse_offset, numbers) if len(numbers) == 2 else (None, None)  # noqa: PLR2004
    if partition is None or offset is None or partition > _MAX_PARTITION:
        return None
    return Origin(topic, partition, offset)


class Record(NamedTuple):
    """One Kafka record. A tuple and not a dataclass: it is made once per record on the hot path."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    """Epoch milliseconds of the Kafka timestamp; 0 or less: the record has none."""
    topic_id: str | None = None
    """Kafka's id of the topic; None when the broker has no topic ids."""
    leader_epoch: int | None = None
    """Number of the partition's leadership under which it was written; None when the broker does not tell it. After a
    log has lost its end, other records take the offsets, in a later epoch."""

    @property
    def recorded_at_ms(self) -> int | None:
        """Epoch milliseconds of the Kafka timestamp; None when the record has none."""
        return self.timestamp_ms if self.timestamp_ms > 0 else None

    @property
    def origin(self) -> Origin:
        """This record's own position."""
        return Origin(self.topic, self.partition, self.offset, self.topic_id)
