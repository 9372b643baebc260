"""A request as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_OWN_LINES: Final = 4
"""Line ends of a head without headers: after the request line, ``Accept``, ``Content-Length`` and the head itself."""


def request_bytes(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST. Raises ``ValueError`` for a header with a line end or a zero byte: it would begin another header."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"POST {path} HTTP/1.1\r\n{lines}Accept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
    ends = len(headers) + _OWN_LINES
    if head.count("\n") != ends or head.count("\r") != ends or "\0" in head:
        raise ValueError("Newline, carriage return, or null byte detected in headers.")
    return head.encode() + body
