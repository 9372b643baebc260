"""The partition of a key, as Java's clients and librdkafka's ``murmur2`` choose it."""

from __future__ import annotations

from typing import Final

_SEED: Final = 0x9747B28C
_FACTOR: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF


def murmur2(key: bytes) -> int:
    """MurmurHash2 of 32 bits with the seed of Kafka's clients, as an unsigned number."""
    size = len(key)
    whole = size & ~3
    value = _SEED ^ size
    for at in range(0, whole, 4):
        part = int.from_bytes(key[at : at + 4], "little") * _FACTOR & _MASK
        part ^= part >> 24
        value = (value * _FACTOR & _MASK) ^ (part * _FACTOR & _MASK)
    if whole < size:
        value = (value ^ int.from_bytes(key[whole:], "little")) * _FACTOR & _MASK
    value ^= value >> 13
    value = value * _FACTOR & _MASK
    return value ^ value >> 15


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key in a topic of ``count`` partitions."""
    return (murmur2(key) & _POSITIVE) % count
