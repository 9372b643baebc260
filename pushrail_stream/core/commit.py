"""A commit: the offset to resume at, and the metadata that names its topic and the settled offsets above it.

The metadata names its offset and its topic, because tools move offsets and keep the metadata, and a topic may be
deleted and created again under its name. The map does not count for any other offset or topic. The metadata also
names the newest leader epoch that was read: after a log has lost its end, other records take the offsets, in a later
epoch. The map does not count for those, and `kafka.commits` gives the epoch to Kafka.
"""

from __future__ import annotations

import base64
import re
import zlib
from typing import Final, NamedTuple

from pushrail_stream.core.record import NO_TOPIC_ID, TopicIdentity

MAX_METADATA_CHARS: Final = 3500
"""Longest metadata written; the broker's ``offset.metadata.max.bytes`` is 4096 by default."""
MAX_MAP_OFFSETS: Final = 65_536
"""Offsets that a map may span. It bounds the memory that hostile or damaged metadata can make us use."""
_PREFIX: Final = "ps2"
_EPOCH_END: Final = "/"
"""Ends the leader epoch before the map. Base85 has no such character, so an earlier version ignores the map."""
_EPOCH: Final = re.compile("[0-9]{1,10}")
"""Kafka's leader epochs have 32 bits."""
_PARTS: Final = 5
"""Prefix, head offset, topic id, map and cluster id, separated by colons. Only a cluster id may contain a colon."""


class Committable(NamedTuple):
    """An offset that a tracker has released. Nothing else can be committed. Consuming resumes at ``offset``."""

    offset: int
    metadata: str

    def without_map(self) -> Committable:
        """The same commit, with metadata of only its offset, topic and leader epoch."""
        parts = self.metadata.split(":", _PARTS - 1)
        if len(parts) < _PARTS:
            return self
        epoch, end, _ = parts[3].rpartition(_EPOCH_END)
        return Committable(self.offset, ":".join((*parts[:3], epoch + end, parts[4])))

    def of_no_topic(self) -> Committable:
        """The same commit without its map, as of a topic that was deleted: the next owner begins at the beginning."""
        topic = topic_of(self)
        if topic is None:
            return self
        nowhere = topic._replace(topic_id=NO_TOPIC_ID)
        return Committable(self.offset, encode_metadata(self.offset, [], nowhere, epoch_of(self)))

    def shorter(self) -> Committable:
        """The same commit without its map, or without any metadata when it has no map."""
        without_map = self.without_map()
        return Committable(self.offset, "") if without_map == self else without_map


class SettledMap(NamedTuple):
    """The settled offsets of a commit."""

    offsets: list[int]
    """Ascending."""
    epoch: int | None = None
    """The newest leader epoch of the records that were read; None when it is unknown."""


def encode_metadata(head: int, settled: list[int], topic: TopicIdentity | None = None, epoch: int | None = None) -> str:
    """The metadata of a commit at ``head``: the topic, and the ``settled`` offsets from there on, ascending.

    ``epoch``: the newest leader epoch of the records that were read. A map that would be too long is left out. The
    text is empty when there is neither topic nor map.
    """
    cluster_id, topic_id = topic or ("", "")
    packed, newest = _pack(head, settled), "" if epoch is None else f"{epoch}{_EPOCH_END}"
    rest = len(_PREFIX) + len(str(head)) + len(topic_id) + len(newest) + len(cluster_id) + _PARTS
    if len(packed) > MAX_METADATA_CHARS - rest:
        packed = ""
    return ":".join((_PREFIX, str(head), topic_id, newest + packed, cluster_id)) if topic is not None or packed else ""


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
    return SettledMap(_unpack(committed.offset, packed), int(epoch) if epoch else None)


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


class _Mark(NamedTuple):
    topic: TopicIdentity | None
    packed: str


def _read(committed: Committable) -> _Mark | None:
    """The parts of the metadata; None when it was not written for this offset."""
    parts = committed.metadata.split(":", _PARTS - 1)
    if len(parts) < _PARTS or parts[0] != _PREFIX or parts[1] != str(committed.offset):
        return None
    _, _, topic_id, packed, cluster_id = parts
    return _Mark(TopicIdentity(cluster_id, topic_id) if topic_id else None, packed)


def _pack(head: int, settled: list[int]) -> str:
    if not settled or settled[-1] - head >= MAX_MAP_OFFSETS:
        return ""
    bits = bytearray((settled[-1] - head) // 8 + 1)
    for offset in settled:
        index = offset - head
        bits[index >> 3] |= 1 << (index & 7)
    return base64.b85encode(zlib.compress(bits, 6)).decode()


def _unpack(head: int, text: str) -> list[int]:
    unpacker = zlib.decompressobj()
    try:
        bits = unpacker.decompress(base64.b85decode(text), MAX_MAP_OFFSETS // 8)
    except (ValueError, zlib.error):
        return []
    if not unpacker.eof:  # cut short or too long: without the checksum at its end, the bits may be wrong
        return []
    return [head + i for i in range(len(bits) * 8) if bits[i >> 3] >> (i & 7) & 1]
