"""Skips: operators' orders to step over a batch that cannot be read, on the topic where workers find them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.record import MAX_OFFSET, Partition, Record
from pushrail_stream.core.text import safe_message

CODE: Final = "Skipped"
"""Error code of the dead letter for the offsets that were stepped over."""
_KEY: Final = "skip:"


class Mark(NamedTuple):
    """A record for the topic of replays."""

    key: str
    value: bytes


class Skip(NamedTuple):
    """The offsets of one partition from ``first`` to below ``end`` are stepped over."""

    partition: Partition
    first: int
    end: int
    reason: str
    """The operator's reason, for people."""
    at_ms: int
    topic_id: str | None = None
    """Kafka's id of the topic; None when the broker has no topic ids."""

    def covers(self, partition: Partition, position: int, topic_id: str | None) -> bool:
        """Whether a worker at this position must resume at ``end``."""
        return (
            self.partition == partition
            and self.first <= position < self.end
            and (self.topic_id is None or topic_id is None or self.topic_id == topic_id)
        )


def skip_mark(skip: Skip) -> Mark:
    """The order as a record for the topic of replays, which is compacted and kept for months."""
    value = {
        "topic": skip.partition.topic,
        "partition": skip.partition.number,
        "first": skip.first,
        "end": skip.end,
        "reason": skip.reason,
        "at": skip.at_ms,
        "topicId": skip.topic_id,
    }
    return Mark(f"{_KEY}{skip.partition}/{skip.first}", json.dumps(value).encode())


def find_skip(marks: Mapping[str, bytes], partition: Partition, position: int, topic_id: str | None) -> Skip | None:
    """The order for a worker at ``position``, the longest of several; None when there is none."""
    orders = (read_skip(value) for key, value in marks.items() if key.startswith(_KEY))
    covering = [skip for skip in orders if skip is not None and skip.covers(partition, position, topic_id)]
    return max(covering, key=lambda skip: skip.end, default=None)


def read_skip(value: bytes) -> Skip | None:
    """The order that `skip_mark` wrote; None for any other record.

    The reason is valid UTF-8, although JSON can hold half of a surrogate pair.
    """
    match parse_mark(value):
        case {
            "topic": str(topic), "partition": int(number), "first": int(first), "end": int(end),
            "reason": str(reason), "at": int(at_ms), "topicId": str() | None as topic_id,
        } if 0 <= first < end <= MAX_OFFSET:  # fmt: skip
            return Skip(Partition(topic, number), first, end, safe_message(reason), at_ms, topic_id)
        case _:
            return None


def skip_dead_letter(skip: Skip) -> Copy:
    """The dead letter for the records that were stepped over. It has no key and no value: they cannot be read."""
    last = skip.end - 1
    message = f"offsets {skip.first} to {last} could not be read and were stepped over by an operator: {skip.reason}"
    record = Record(skip.partition.topic, skip.partition.number, skip.first, None, None, (), skip.at_ms)
    return Copy(
        record=record, reason="undecodable", failed_at_ms=skip.at_ms, problem=Problem(CODE, safe_message(message))
    )


def parse_mark(value: bytes) -> object:
    """The JSON value of a mark; None when it is invalid."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
