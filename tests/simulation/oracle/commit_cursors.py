"""The cursors of a commit, read without the product's code: a fault of that code must not blind the oracle."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.record import Partition


class CursorSeen(NamedTuple):
    """The place of one destination in its partition, as a commit names it."""

    destination: str
    since: int
    next: int
    to: int | None
    """None: the destination is behind."""
    oldest_ms: int
    open: frozenset[int]
    live: tuple[tuple[int, int], ...] = ()
    """Parts that the live reader has: first offset and end of each."""

    def covers(self, offset: int) -> bool:
        """Whether the cursor still delivers this offset."""
        if offset in self.open:
            return True
        is_live = any(first <= offset < end for first, end in self.live)
        return max(self.next, self.since) <= offset and (self.to is None or offset < self.to) and not is_live


@lru_cache(maxsize=4096)
def read_cursors(commit: Committable) -> Mapping[str, CursorSeen]:
    """By destination the cursors that a commit names, also when a tool has moved the commit since.

    Those of a snapshot are beside the metadata. Raises ValueError for any text that nobody could resume from.
    """
    text = _field(commit)
    if text.startswith("@"):
        text = commit.cursors
    if text.startswith("!"):
        text = zlib.decompress(base64.b85decode(text[1:])).decode()
    found = [one for group in text.split("/") if group for one in _read(group)]
    return {one.destination: one for one in found}


def names_cursors(commit: Committable) -> bool:
    """Whether a commit names cursors, in its metadata or in a snapshot."""
    return _field(commit) != ""


def snapshot_place(commit: Committable) -> tuple[int, int] | None:
    """Partition and offset of the snapshot that a commit names; None when it names none."""
    digest, *place = _field(commit).split(".")
    return (int(place[0]), int(place[1])) if digest.startswith("@") and len(place) == 2 else None


def read_snapshot(commit: Committable, partition: Partition, value: bytes | None) -> str:
    """The cursors in the record that a commit names as its snapshot; empty when the record is of another commit."""
    fields = json.loads(value or b"{}")
    head, topic_id = commit.metadata.split(":")[1:3]
    wanted = {"topic": partition.topic, "partition": partition.number, "offset": head, "topicId": topic_id}
    return str(fields["cursors"]) if all(fields.get(name) == one for name, one in wanted.items()) else ""


def find_snapshot(commit: Committable, partition: Partition, values: Iterable[bytes | None]) -> str:
    """The cursors of a commit's snapshot among these records; empty when it is not there.

    A tool that copies commit and snapshot from another cluster gives the snapshot another place.
    """
    digest = _field(commit).partition(".")[0]
    for value in values:
        cursors = read_snapshot(commit, partition, value)
        if cursors and digest == "@" + hashlib.sha256(cursors.encode()).hexdigest()[: len(digest) - 1]:
            return cursors
    return ""


def _field(commit: Committable) -> str:
    """The part of the metadata that is about cursors."""
    prefix, *parts = commit.metadata.split(":", 5)
    return parts[3] if prefix == "ps3" and len(parts) == 5 else ""


def _read(group: str) -> Iterator[CursorSeen]:
    """The cursors of a group: their numbers, then their destinations with the marks of their owners."""
    part, following, oldest_ms, _opened_ms, live, packed, *destinations = group.split(",")
    since, to = part.split("-")
    ranges = [ends.split("-") for ends in live.split(".") if ends]
    for destination in destinations:
        yield CursorSeen(
            destination.partition("=")[0],
            int(since),
            int(following),
            int(to) if to else None,
            int(oldest_ms),
            frozenset(_unpack(packed)),
            tuple((int(first), int(end)) for first, end in ranges),
        )


def _unpack(text: str) -> Iterator[int]:
    """The offsets in pairs of a first offset and a bitmap from there on."""
    parts = text.split(".") if text else []
    for first, bitmap in zip(parts[::2], parts[1::2], strict=True):
        bits = zlib.decompress(base64.b85decode(bitmap)) if bitmap else b""
        yield from (
            int(first) + 8 * place + bit for place, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1
        )
