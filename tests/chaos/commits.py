"""Commits of both consumer groups at any moment, read from Kafka's own record of them.

The topic ``__consumer_offsets`` holds every commit with its time (the formats are OffsetCommitKey and OffsetCommitValue
of Apache Kafka's group coordinator, versions 3 and 4). Compaction would take them away: the broker has to run with
`KEEP_COMMITS`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from pushrail_stream.core.commit import Committable, cursors_of, decode_settled
from pushrail_stream.core.cursor_state import CursorState
from tests.chaos.records import read_records

KEEP_COMMITS: Final = {"log.cleaner.enable": "false"}
"""Broker properties."""
_TOPIC: Final = "__consumer_offsets"
_KEY_VERSIONS: Final = (0, 1)
_VALUE_VERSIONS: Final = (3, 4)


class Position(NamedTuple):
    """The position of a record."""

    topic: str
    partition: int
    offset: int


class Commit(NamedTuple):
    """One commit of a partition, acknowledged ``at`` (epoch seconds)."""

    at: float
    topic: str
    partition: int
    offset: int
    metadata: str


class Commits:
    """All commits, by partition and time."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        self._times: dict[tuple[str, int], list[float]] = {}
        self._commits: dict[tuple[str, int], list[Commit]] = {}
        for commit in sorted(commits):
            where = commit.topic, commit.partition
            self._times.setdefault(where, []).append(commit.at)
            self._commits.setdefault(where, []).append(commit)

    @classmethod
    def read(cls, bootstrap: str, groups: Iterable[str]) -> Commits:
        """From Kafka. No topic belongs to both groups."""
        wanted = frozenset(groups)
        found = (_commit(m.key(), m.value(), wanted) for m in read_records(bootstrap, _TOPIC))
        return cls(commit for commit in found if commit is not None)

    def cover(self, position: Position, at: float, destination_id: str) -> bool:
        """Whether a worker that started at this moment would have known that this delivery of a record was settled.

        It is known of all destinations of a record, except those whose cursor still has the record.
        """
        commit = self._at((position.topic, position.partition), at)
        if commit is None:
            return False
        cursor = _cursors(commit.offset, commit.metadata).get(destination_id)
        if cursor is not None and is_left(cursor, position.offset):
            return False
        return position.offset < commit.offset or position.offset in _settled(commit.offset, commit.metadata)

    def cursors_at(self, at: float) -> int:
        """The cursors that a worker that started at this moment would have found."""
        found = (self._at(where, at) for where in self._commits)
        return sum(len(_cursors(commit.offset, commit.metadata)) for commit in found if commit is not None)

    @property
    def with_cursors(self) -> int:
        """The commits that name a cursor."""
        return sum(
            bool(_cursors(commit.offset, commit.metadata)) for commits in self._commits.values() for commit in commits
        )

    def _at(self, where: tuple[str, int], at: float) -> Commit | None:
        index = bisect_right(self._times.get(where, []), at) - 1
        return None if index < 0 else self._commits[where][index]


def is_left(cursor: CursorState, offset: int) -> bool:
    """Whether the cursor still delivers this offset."""
    return offset in cursor.open or (cursor.next <= offset and (cursor.to is None or offset < cursor.to))


@lru_cache(maxsize=4096)
def _cursors(offset: int, metadata: str) -> Mapping[str, CursorState]:
    return {cursor.destination_id: cursor for cursor in cursors_of(Committable(offset, metadata))}


@lru_cache(maxsize=4096)
def _settled(offset: int, metadata: str) -> frozenset[int]:
    return frozenset(decode_settled(Committable(offset, metadata)))


def _commit(key: bytes | None, value: bytes | None, groups: frozenset[str]) -> Commit | None:
    if key is None or value is None or struct.unpack_from(">h", key)[0] not in _KEY_VERSIONS:
        return None
    group, at = _text(key, 2)
    if group not in groups:
        return None
    topic, at = _text(key, at)
    (partition,) = struct.unpack_from(">i", key, at)
    version, offset, _epoch = struct.unpack_from(">hqi", value)
    if version not in _VALUE_VERSIONS:
        raise ValueError(f"{_TOPIC} has values of version {version}, not one of {_VALUE_VERSIONS}")
    metadata, at = _text(value, 14) if version == _VALUE_VERSIONS[0] else _compact_text(value, 14)
    (epoch_ms,) = struct.unpack_from(">q", value, at)
    return Commit(epoch_ms / 1000, topic, partition, offset, metadata)


def _text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", data, at)
    end = at + 2 + length
    return data[at + 2 : end].decode(), end


def _compact_text(data: bytes, at: int) -> tuple[str, int]:
    """The length and one more, seven bits a byte, the lowest first."""
    length = shift = 0
    while True:
        length |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    end = at + length - 1
    return data[at:end].decode(), end
