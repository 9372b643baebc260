"""The metadata of a commit, read without the product's code: a fault of that code must not blind the oracle."""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache
from typing import NamedTuple

from pushrail_stream.core.commit import Committable


class CommitMap(NamedTuple):
    """The topic and the settled offsets that a commit names, and the newest leader epoch of their records."""

    topic_id: str | None = None
    settled: frozenset[int] = frozenset()
    epoch: int | None = None
    """None: the map names none."""


@lru_cache(maxsize=4096)
def read_map(commit: Committable) -> CommitMap:
    """The map of a commit; an empty one when the metadata was written for another offset, or is none of ours."""
    prefix, *parts = commit.metadata.split(":", 5)
    if prefix != "ps3" or len(parts) != 5 or parts[0] != str(commit.offset):
        return CommitMap()
    _, topic_id, told, _, _ = parts
    epoch, _, packed = told.rpartition("/")
    try:
        bits = zlib.decompress(base64.b85decode(packed)) if packed else b""
    except (ValueError, zlib.error):
        bits = b""
    settled = (8 * place + bit for place, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1)
    offsets = frozenset(commit.offset + index for index in settled)
    return CommitMap(topic_id or None, offsets, int(epoch) if epoch else None)
