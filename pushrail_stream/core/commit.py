"""A commit: the offset to resume at, and metadata with its topic, the settled offsets above it, and the cursors.

The metadata names its offset and its topic, because tools move offsets and keep the metadata, and a topic may be
deleted and created again under its name. The map does not count for any other offset or topic. The metadata also
names the newest leader epoch that was read: after a log has lost its end, other records take the offsets, in a later
epoch. The map does not count for those, and `kafka.commits` gives the epoch to Kafka. A map may be left out, which
costs repeats only. A cursor may not: the commit is already past its events. Cursors that do not fit go to a snapshot, a
record of its own, and the metadata names its digest and its place (`core.snapshot`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from pushrail_stream.core.cursor_state import CursorError, CursorState, decode_cursors
from pushrail_stream.core.offset_set import pack, unpack
from pushrail_stream.core.record import NO_TOPIC_ID, TopicIdentity

MAX_METADATA_CHARS: Final = 3500
"""Longest metadata written; the broker's ``offset.metadata.max.bytes`` is 4096 by default."""
_PREFIX: Final = "ps3"
_EPOCH_END: Final = "/"
"""Ends the leader epoch before the map. Base85 has no such character."""
_EPOCH: Final = re.compile("[0-9]{1,10}")
"""Kafka's leader epochs have 32 bits."""
PLACE: Final = "."
"""Separates a digest from the place of the snapshot."""
_DIGEST_CHARS: Final = 16
"""Hexadecimal digits of a digest: 64 bits find damage and mistakes, and no attack is expected."""
_PARTS: Final = 6
"""Prefix, head offset, topic id, map, cursors and cluster id, separated by colons. Only a cluster id may contain a
colon."""
DIGEST: Final = "@"
"""Begins a field of cursors that has their digest, and their snapshot's place after a dot. No other text has it."""
MIN_METADATA_CHARS: Final = 160
"""Characters that a broker must take for a commit that names a snapshot: offset, topic id, leader epoch, digest and
place have at most 125, and a cluster id of Kafka's own making has 22."""


class Committable(NamedTuple):
    """An offset that a tracker has released. Nothing else can be committed. Consuming resumes at ``offset``."""

    offset: int
    metadata: str
    cursors: str = ""
    """The text of the cursors when it does not fit into the metadata, which has its digest instead."""

    @property
    def needs_snapshot(self) -> bool:
        """Whether the commit may be made only once a record has its cursors, and the metadata names that record."""
        return self.metadata.split(":", _PARTS - 1)[4:5] == [digest_of(self.cursors)] if self.cursors else False

    def without_map(self) -> Committable:
        """The same commit, with metadata of only its offset, topic, leader epoch and cursors."""
        parts = self.metadata.split(":", _PARTS - 1)
        if len(parts) < _PARTS:
            return self
        epoch, end, _ = parts[3].rpartition(_EPOCH_END)
        return self._replace(metadata=":".join((*parts[:3], epoch + end, *parts[4:])))

    def without_cursors(self) -> Committable:
        """The same commit, with its cursors beside the metadata."""
        text = cursor_field(self)
        if text and not text.startswith(DIGEST):
            return self._replace(cursors=text).with_field(digest_of(text))
        return self

    def without_metadata(self) -> Committable:
        """The offset alone. A commit with cursors stays as it is: it is past their events."""
        return self if cursor_field(self) else Committable(self.offset, "")

    def of_no_topic(self) -> Committable:
        """The same commit without its map, as of a deleted topic: the next owner begins at the beginning."""
        topic = topic_of(self)
        if topic is None:
            return self
        nowhere = topic._replace(topic_id=NO_TOPIC_ID)
        return self._replace(metadata=encode_metadata(self.offset, [], nowhere, epoch_of(self), cursor_field(self)))

    def shorter(self) -> Committable:
        """The same commit with shorter metadata: first without its map, then without its cursors, then without any."""
        steps = (self.without_map(), self.without_cursors(), self.without_metadata())
        return next((shorter for shorter in steps if shorter != self), self)

    @property
    def shortenings(self) -> int:
        """Steps by which it has been shortened, at least: 0, 1, or 2 when no shorter one is possible."""
        return 0 if self.without_map() != self else 1 if self.without_cursors() != self else 2

    def with_field(self, cursors: str) -> Committable:
        """The same commit, with another text in the field of its cursors."""
        parts = self.metadata.split(":", _PARTS - 1)
        return self._replace(metadata=":".join((*parts[:4], cursors, *parts[5:])))

    def says_as(self, other: Committable | None) -> bool:
        """Whether the other commit says the same, wherever its snapshot is."""
        if other is None or self.offset != other.offset:
            return False
        return self == other or _without_place(self) == _without_place(other)


class SettledMap(NamedTuple):
    """The settled offsets of a commit."""

    offsets: list[int]
    """Ascending."""
    epoch: int | None = None
    """The newest leader epoch of the records that were read; None when it is unknown."""


def new_commit(
    head: int, settled: list[int], topic: TopicIdentity | None, epoch: int | None, cursors: str
) -> Committable:
    """The commit at ``head``, with as much of the map and of the text of its ``cursors`` in its metadata as fits."""
    commit = Committable(head, encode_metadata(head, settled, topic, epoch, cursors))
    if len(commit.metadata) <= MAX_METADATA_CHARS:
        return commit
    return Committable(head, encode_metadata(head, settled, topic, epoch, digest_of(cursors)), cursors)


def encode_metadata(
    head: int,
    settled: list[int],
    topic: TopicIdentity | None = None,
    epoch: int | None = None,
    cursors: str = "",
) -> str:
    """The metadata of a commit at ``head``: the topic, the ``settled`` offsets from there on, ascending, and cursors.

    ``epoch``: the newest leader epoch of the records that were read. A map that would be too long is left out. The
    text is empty when there is neither topic nor map nor cursor.
    """
    cluster_id, topic_id = topic or ("", "")
    packed, newest = pack(head, settled), "" if epoch is None else f"{epoch}{_EPOCH_END}"
    rest = len(_PREFIX) + len(str(head)) + len(topic_id) + len(newest) + len(cursors) + len(cluster_id) + _PARTS
    if len(packed) > MAX_METADATA_CHARS - rest:
        packed = ""
    if topic is None and not packed and not cursors:
        return ""
    return ":".join((_PREFIX, str(head), topic_id, newest + packed, cursors, cluster_id))


def decode_settled(committed: Committable) -> list[int]:
    """The settled offsets in the metadata, ascending.

    Metadata that is damaged, or that belongs to another offset or another product, has none.
    """
    return _map_of(committed).offsets


def settled_map(topic: TopicIdentity | None, committed: Committable) -> SettledMap:
    """The map in the metadata if it was written for this ``topic``; otherwise an empty one."""
    return _map_of(committed) if topic_of(committed) == topic else SettledMap([])


def _map_of(committed: Committable) -> SettledMap:
    mark = _read(committed)
    if mark is None:
        return SettledMap([])
    epoch, _, packed = mark.packed.rpartition(_EPOCH_END)
    if epoch and not _EPOCH.fullmatch(epoch):
        return SettledMap([])
    return SettledMap(unpack(committed.offset, packed) or [], int(epoch) if epoch else None)


def epoch_of(committed: Committable) -> int | None:
    """The newest leader epoch of the records that were read; None when the metadata names none."""
    return _map_of(committed).epoch


def topic_of(committed: Committable) -> TopicIdentity | None:
    """The topic of a commit; None when the metadata names none."""
    mark = _read(committed)
    return None if mark is None else mark.topic


def was_recreated(old: TopicIdentity | None, new: TopicIdentity | None) -> bool:
    """Whether the ``old`` topic was deleted and created again as ``new``, so that its offsets are of other records.

    On another cluster the offset counts, because a tool has translated it or an operator has chosen it.
    """
    if old is None or new is None:
        return False
    return old.cluster_id == new.cluster_id and old.topic_id != new.topic_id


def has_cursors(committed: Committable) -> bool:
    """Whether the commit has cursors, also when a tool has moved it since."""
    return cursor_field(committed) != ""


def cursor_field(committed: Committable) -> str:
    """The text of the cursors in the metadata, or the digest and the place of their snapshot; else empty."""
    parts = committed.metadata.split(":", _PARTS - 1)
    return parts[4] if len(parts) == _PARTS and parts[0] == _PREFIX else ""


def digest_of(cursors: str) -> str:
    """The mark of cursors that do not fit into the metadata."""
    return DIGEST + hashlib.sha256(cursors.encode()).hexdigest()[:_DIGEST_CHARS]


def cursors_of(committed: Committable) -> list[CursorState]:
    """The cursors of a commit, also when a tool has moved it since. Raises `CursorError`."""
    text = cursor_field(committed)
    if text.startswith(DIGEST):
        if digest_of(committed.cursors) != text.partition(PLACE)[0]:
            raise CursorError(f"the snapshot of the cursors {text!r} is missing, or is another one")
        text = committed.cursors
    return decode_cursors(text)


def resumed_cursors(
    committed: Committable, topic: TopicIdentity | None, offset_at: Callable[[int], int | None]
) -> list[CursorState]:
    """The cursors with which the next owner of a partition continues. Raises `CursorError`.

    A tool may have translated the commit to another cluster or moved it. Then a cursor begins again at the record time
    of its oldest event and ends at the commit: its events are repeated and never lost. ``offset_at``: the first offset
    of a record time, epoch milliseconds; None when no record is as new. The cursors of a topic that was deleted and
    created again come as they were, so that they can be reported.
    """
    states = cursors_of(committed)
    mark = _read(committed)
    if mark is not None and (None in {topic, mark.topic} or mark.topic == topic or was_recreated(mark.topic, topic)):
        return states
    return [state for old in states if (state := _translated(old, committed.offset, offset_at)) is not None]


def _translated(old: CursorState, end: int, offset_at: Callable[[int], int | None]) -> CursorState | None:
    start = offset_at(old.oldest_ms)
    if start is None or start >= end:  # the live reader reads its events
        return None
    return replace(old, since=start, next=start, to=end, live=(), open=())


def _without_place(commit: Committable) -> str:
    text = cursor_field(commit)
    return commit.with_field(text.partition(PLACE)[0]).metadata if text.startswith(DIGEST) else commit.metadata


class _Mark(NamedTuple):
    topic: TopicIdentity | None
    packed: str


def _read(committed: Committable) -> _Mark | None:
    """The parts of the metadata; None when it was not written for this offset."""
    parts = committed.metadata.split(":", _PARTS - 1)
    if len(parts) < _PARTS or parts[0] != _PREFIX or parts[1] != str(committed.offset):
        return None
    _, _, topic_id, packed, _, cluster_id = parts
    return _Mark(TopicIdentity(cluster_id, topic_id) if topic_id else None, packed)
