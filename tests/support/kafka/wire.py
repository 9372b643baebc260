"""Records by the wire protocol that no Python client can write: header names outside UTF-8, odd times."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRODUCE: Final = 0
_VERSION: Final = 3
_ALL_REPLICAS: Final = -1
_TIMEOUT_MS: Final = 10_000
_SETTLING: Final = frozenset({3, 6})
"""UNKNOWN_TOPIC_OR_PARTITION and NOT_LEADER_OR_FOLLOWER: the topic was created a moment ago."""
_SETTLE_SECS: Final = 10.0
_PAUSE_SECS: Final = 0.1
_CASTAGNOLI: Final = 0x82F63B78
_ABSENT: Final = b"\xff\xff"
"""A string of length -1."""


def write_raw(
    bootstrap_servers: str,
    topic: str,
    key: bytes,
    value: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    at_ms: int | None = None,
) -> None:
    """Write one record to partition 0 of a topic of a one-node cluster; raises when the broker refuses it.

    ``at_ms``: its Kafka timestamp, -1 for none; now unless it is given.
    """
    batch = _batch(_record(key, value, headers), time.time_ns() // 1_000_000 if at_ms is None else at_ms)
    body = _ABSENT + struct.pack(">hi", _ALL_REPLICAS, _TIMEOUT_MS)
    body += struct.pack(">i", 1) + _text(topic) + struct.pack(">iii", 1, 0, len(batch)) + batch
    request = struct.pack(">hhi", _PRODUCE, _VERSION, 1) + _text("tests") + body
    deadline = time.monotonic() + _SETTLE_SECS
    while (code := _ask(bootstrap_servers, topic, request)) in _SETTLING and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECS)
    assert code == 0, f"the broker answers with error code {code}"


def _ask(bootstrap_servers: str, topic: str, request: bytes) -> int:
    """The error code of the reply."""
    host, port = bootstrap_servers.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as connection, connection.makefile("rb") as replies:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", replies.read(4))
        reply = replies.read(size)
    # Correlation id, one topic, its name, one partition, its number, the error code.
    (code,) = struct.unpack_from(">h", reply, 4 + 4 + 2 + len(topic) + 4 + 4)
    return int(code)


def _record(key: bytes, value: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    fields = b"\0" + _varint(0) + _varint(0) + _sized(key) + _sized(value) + _varint(len(headers))
    return _sized(fields + b"".join(_sized(name) + _sized(content) for name, content in headers))


def _batch(record: bytes, at_ms: int) -> bytes:
    """A record batch of format version 2, as Kafka's documentation describes it under "Record Batch"."""
    body = struct.pack(">hiqqqhii", 0, 0, at_ms, at_ms, -1, -1, -1, 1) + record
    checked = struct.pack(">bI", 2, _crc32c(body)) + body
    return struct.pack(">qii", 0, 4 + len(checked), -1) + checked


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """A non-negative number in zigzag encoding, seven bits a byte."""
    left, out = number << 1, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _crc32c(content: bytes) -> int:
    rest = 0xFFFFFFFF
    for byte in content:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (_CASTAGNOLI if rest & 1 else 0)
    return rest ^ 0xFFFFFFFF
