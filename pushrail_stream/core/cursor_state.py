"""A cursor as a commit names it, and its text.

The text has one group for all cursors with equal numbers: in an outage of many destinations, each cursor adds little
more than its destination's id. A group has the cursors' numbers, their open offsets and their destinations, separated
by commas. Groups are separated by slashes, and several of them may be packed together.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, NamedTuple

from pushrail_stream.core.offset_set import decode_offsets, encode_offsets
from pushrail_stream.core.record import parse_offset

_NUMBERS: Final = 6
"""Fields of a group before its destinations: the cursors' parts, `next`, two times, the parts of the live reader, and
the open offsets."""
_PACKED: Final = "!"
"""Begins a text that is compressed and written in base 85. Any other text begins with a digit."""
_MAX_PLAIN_CHARS: Final = 1_000
"""Longest text that is written as it is, for people to read. Longer ones are compressed, also to leave room for a
commit's map."""
_MAX_CHARS: Final = 16 * 2**20
"""Longest text that is unpacked. It bounds the memory that damaged text can make us use."""
_OWNER: Final = re.compile("[0-9a-f]{0,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorState:
    """A cursor as a commit names it."""

    destination_id: str
    owner: str = ""
    """Mark of the customer that had the destination when the cursor opened (`owner_mark`); empty when unknown."""
    since: int
    """The first offset that the cursor owns, apart from those in `open` below it."""
    next: int
    """The cursor still delivers every offset of its destination from here on."""
    to: int | None = None
    """The first offset that the live reader owns again; None while the destination is behind."""
    live: tuple[tuple[int, int], ...] = field(default=())
    """The parts between `since` and `to` that the live reader has: first offset and end of each, ascending."""
    oldest_ms: int
    """Record time of the oldest event that is not delivered, or of an earlier one; epoch milliseconds."""
    opened_ms: int
    """Epoch milliseconds from which the waiting deliveries' age counts."""
    open: tuple[int, ...] = field(default=())
    """The offsets that the cursor delivers besides those from `next` on, ascending."""

    def covers(self, offset: int) -> bool:
        """Whether the cursor still delivers its destination's event at this offset."""
        return offset in self.open or self.reads(offset)

    def reads(self, offset: int) -> bool:
        """Whether the cursor has still to read this offset. It also delivers those in `open`."""
        return self.next <= offset and self.has_range(offset)

    def has_range(self, offset: int) -> bool:
        """Whether the offset lies in a part that the cursor owns, and the live reader does not."""
        if offset < self.since or (self.to is not None and offset >= self.to):
            return False
        return not any(start <= offset < end for start, end in self.live)


class CursorEntry(NamedTuple):
    """The text of one cursor."""

    numbers: str
    """Cursors with the same numbers are one group."""
    destination: str


class CursorError(ValueError):
    """The cursors of a commit cannot be read. Without them, events would be lost."""


@lru_cache(10_000)
def owner_mark(vendor: str, customer: str) -> str:
    """A short mark of a customer. Two customers have the same one with a chance of 1 in 4 billion."""
    return f"{zlib.crc32(f'{vendor} {customer}'.encode(errors='surrogatepass')):x}"


def encode_cursors(states: Iterable[CursorState]) -> str:
    """The cursors of a partition as ASCII text without a colon, packed when it is long."""
    return encode_entries(map(entry_of, states))


def entry_of(state: CursorState) -> CursorEntry:
    """The text of one cursor."""
    numbers = (
        f"{state.since}-{'' if state.to is None else state.to}",
        str(state.next),
        str(state.oldest_ms),
        str(state.opened_ms),
        ".".join(f"{start}-{end}" for start, end in state.live),
        encode_offsets(state.open),
    )
    return CursorEntry(",".join(numbers), f"{state.destination_id}={state.owner}")


def encode_entries(entries: Iterable[CursorEntry]) -> str:
    """The texts of cursors as one text, which is packed when it is long."""
    groups = dict[str, list[str]]()
    for numbers, destination in entries:
        groups.setdefault(numbers, []).append(destination)
    text = "/".join(",".join((numbers, *destinations)) for numbers, destinations in groups.items())
    return pack_text(text) if len(text) > _MAX_PLAIN_CHARS else text


def pack_text(text: str) -> str:
    """The same text, shorter if it is long."""
    packed = _PACKED + base64.b85encode(zlib.compress(text.encode(), 6)).decode()
    return min(text, packed, key=len)


def decode_cursors(text: str) -> list[CursorState]:
    """The cursors that `encode_cursors` wrote, or several of its texts with slashes between. Raises `CursorError`."""
    parts = [_unpack(part) if part.startswith(_PACKED) else part for part in text.split("/")] if text else []
    found = [state for part in parts for group in part.split("/") for state in _decode(group)]
    if len({state.destination_id for state in found}) < len(found):
        raise CursorError(f"a destination has two cursors: {text[:80]!r}")
    return found


def _unpack(text: str) -> str:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(base64.b85decode(text[len(_PACKED) :]), _MAX_CHARS).decode("ascii")
    except (ValueError, zlib.error) as error:
        raise CursorError(f"cursors are damaged: {text[:80]!r}") from error
    if not unpacker.eof or not plain:
        raise CursorError(f"cursors are cut short: {text[:80]!r}")
    return plain


def _decode(text: str) -> list[CursorState]:
    fields = text.split(",")
    if len(fields) <= _NUMBERS:
        raise CursorError(f"cursors have at least {_NUMBERS + 1} fields, and these have {len(fields)}: {text[:80]!r}")
    part, *numbers, live, packed = fields[:_NUMBERS]
    since, to = _range(part)
    following, oldest_ms, opened_ms = map(_number, numbers)
    if (offsets := decode_offsets(packed)) is None:
        raise CursorError(f"open offsets cannot be read: {packed[:80]!r}")
    common = CursorState(
        destination_id="", since=since, next=following, to=to, live=_live(live), oldest_ms=oldest_ms,
        opened_ms=opened_ms, open=tuple(offsets),
    )  # fmt: skip
    return [_of_destination(common, text) for text in fields[_NUMBERS:]]


def _of_destination(common: CursorState, text: str) -> CursorState:
    destination_id, equals, owner = text.rpartition("=")
    if not destination_id or not equals or not _OWNER.fullmatch(owner):
        raise CursorError(f"a cursor names its destination and its owner, not {text[:80]!r}")
    return replace(common, destination_id=destination_id, owner=owner)


def _range(text: str) -> tuple[int, int | None]:
    start, dash, end = text.partition("-")
    if not dash:
        raise CursorError(f"{text[:80]!r} is no range of offsets")
    return _number(start), _number(end) if end else None


def _live(text: str) -> tuple[tuple[int, int], ...]:
    parts = [_range(part) for part in text.split(".")] if text else []
    closed = tuple((start, end) for start, end in parts if end is not None and start < end)
    if len(closed) < len(parts):
        raise CursorError(f"{text[:80]!r} has a range without an end")
    return closed


def _number(text: str) -> int:
    number = parse_offset(text)
    if number is None:
        raise CursorError(f"{text[:80]!r} is no number of a cursor")
    return number
