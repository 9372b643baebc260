"""Snapshots: the cursors of a commit whose metadata has no room for them, as a record of a topic of its own.

A snapshot that no commit names does not exist. A commit names its snapshot's place and digest, and the snapshot names
the partition, the topic and the offset of its commit, so a wrong one is never taken.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from pushrail_stream.core.commit import DIGEST, PLACE, Committable, cursor_field, cursors_of
from pushrail_stream.core.cursor_state import CursorError
from pushrail_stream.core.record import Partition, parse_offset


class SnapshotPlace(NamedTuple):
    """The place of a snapshot on its topic."""

    partition: int
    offset: int


def snapshot_key(partition: Partition) -> bytes:
    """The key of the snapshots of this partition."""
    return str(partition).encode()


def snapshot_value(partition: Partition, commit: Committable) -> bytes:
    """The snapshot of a commit of this partition, as the value of a record."""
    return orjson.dumps({**_marks(partition, commit), "cursors": commit.cursors})


def with_place(commit: Committable, place: SnapshotPlace) -> Committable:
    """The commit that may be made now that Kafka has its snapshot at this place."""
    digest = cursor_field(commit).partition(PLACE)[0]
    return commit.with_field(f"{digest}{PLACE}{place.partition}{PLACE}{place.offset}")


def snapshot_of(committed: Committable) -> SnapshotPlace | None:
    """The place of the commit's snapshot; None when it names none. Raises `CursorError` when it cannot be read."""
    text = cursor_field(committed)
    if not text.startswith(DIGEST):
        return None
    parts = text.split(PLACE)
    numbers = [parse_offset(part) for part in parts[1:]]
    if len(numbers) != len(SnapshotPlace._fields) or None in numbers:
        raise CursorError(f"{text!r} names no place of a snapshot")
    partition, offset = (number for number in numbers if number is not None)
    return SnapshotPlace(partition, offset)


def with_snapshot(committed: Committable, partition: Partition, value: bytes | None) -> Committable:
    """The commit with the cursors of its snapshot. Raises `CursorError` when the snapshot is of another commit."""
    try:
        fields = orjson.loads(value or b"")
        marks = {name: fields.get(name) for name in _marks(partition, committed)}
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise CursorError("the snapshot of the cursors cannot be read") from error
    if marks != _marks(partition, committed):
        raise CursorError(f"the snapshot of the cursors is of another commit: {marks}")
    found = committed._replace(cursors=str(fields.get("cursors", "")))
    cursors_of(found)
    return found


def _marks(partition: Partition, commit: Committable) -> dict[str, str | int]:
    """The commit that a snapshot belongs to. They are those of the metadata, also when a tool has moved the commit."""
    _, head, topic_id, *_ = commit.metadata.split(":")
    return {"topic": partition.topic, "partition": partition.number, "offset": head, "topicId": topic_id}
