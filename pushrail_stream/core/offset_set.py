"""A set of offsets as short text: a bitmap that is compressed and written in base 85."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Final

from pushrail_stream.core.record import parse_offset

MAX_OFFSETS: Final = 65_536
"""Offsets that a bitmap may span. It bounds the memory that hostile or damaged text can make us use."""

_ONE: Final = ord("1")
_WINDOW_BITS: Final = 10
"""Window of the small compressor: the binary logarithm of its bytes. It is made in 5 microseconds, a tenth of the time
that one with the usual window takes."""
_MEMORY: Final = 4
"""The small compressor's ``memLevel``, with which a window of bytes becomes one block."""
_TYPE: Final = 0b110
"""The bits of a block's type, which are 0 in a block that is not compressed. Such a block is not used: its checksum
does not find every change of one digit."""


def pack(head: int, offsets: Sequence[int]) -> str:
    """A bitmap of ``offsets``, ascending and from ``head`` on; empty when there is none or they span too much."""
    if not offsets or offsets[-1] - head >= MAX_OFFSETS:
        return ""
    last = offsets[-1]
    # Digits of a binary number, with that of the last offset first. To set a digit takes a third of the time of a bit.
    digits = bytearray(b"0") * (last - head + 1)
    for offset in offsets:
        digits[last - offset] = _ONE
    bits = int(digits, 2).to_bytes((last - head) // 8 + 1, "little")
    return base64.b85encode(_compressed(bits)).decode()


def unpack(head: int, text: str) -> list[int] | None:
    """The offsets of a bitmap that begins at ``head``; None when the text is damaged."""
    unpacker = zlib.decompressobj()
    try:
        bits = unpacker.decompress(base64.b85decode(text), MAX_OFFSETS // 8)
    except (ValueError, zlib.error):
        return None
    if not unpacker.eof:  # cut short or too long: without the checksum at its end, the bits may be wrong
        return None
    return [head + i for i in range(len(bits) * 8) if bits[i >> 3] >> (i & 7) & 1]


def encode_offsets(offsets: Sequence[int]) -> str:
    """Ascending ``offsets`` as pairs of a first offset and a bitmap from there on, separated by dots."""
    parts, start = [], 0
    while start < len(offsets):
        end = start
        while end < len(offsets) and offsets[end] - offsets[start] < MAX_OFFSETS:
            end += 1
        parts.append(f"{offsets[start]}.{pack(offsets[start], offsets[start:end])}")
        start = end
    return ".".join(parts)


def decode_offsets(text: str) -> list[int] | None:
    """The offsets that `encode_offsets` wrote; None when the text is damaged."""
    parts, offsets = text.split(".") if text else [], list[int]()
    if len(parts) % 2:
        return None
    for number, packed in zip(parts[::2], parts[1::2], strict=True):
        head = parse_offset(number)
        found = None if head is None else unpack(head, packed)
        if found is None or (offsets and found and found[0] <= offsets[-1]):
            return None
        offsets += found
    return offsets


def _compressed(bits: bytes) -> bytes:
    if len(bits) <= 1 << _WINDOW_BITS:
        small = zlib.compressobj(6, zlib.DEFLATED, _WINDOW_BITS, _MEMORY)
        packed = small.compress(bits) + small.flush()
        if packed[2] & _TYPE:
            return packed
    return zlib.compress(bits, 6)
