"""A request as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

_OWN_LINES: Final = 2
"""Line ends of a head without headers: after the request line and ``Content-Length``."""
_ACCEPT: Final = {"Accept": "*/*"}


@final
class SharedHeaders:
    """Headers that many requests have in common, ``Accept`` among them. They are checked and written once."""

    __slots__ = ("_lines", "by_name")

    def __init__(self, by_name: dict[str, str]) -> None:
        self.by_name = _ACCEPT | by_name
        self._lines: str | None = None

    @property
    def lines(self) -> str:
        """The lines in a head. Raises ``ValueError`` as `request_bytes` does."""
        if self._lines is None:
            self._lines = _checked(_lines(self.by_name), len(self.by_name))
        return self._lines


NONE_SHARED: Final = SharedHeaders({})


def request_bytes(path: str, headers: Mapping[str, str], body: bytes, shared: SharedHeaders = NONE_SHARED) -> bytes:
    """A POST. Raises ``ValueError`` for a header with a line end or a zero byte: it would begin another header."""
    head = f"POST {path} HTTP/1.1\r\n{_lines(headers)}Content-Length: {len(body)}\r\n"
    return f"{_checked(head, len(headers) + _OWN_LINES)}{shared.lines}\r\n".encode() + body


def _lines(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _checked(lines: str, ends: int) -> str:
    """The lines, if they have this number of ends."""
    if lines.count("\n") != ends or lines.count("\r") != ends or "\0" in lines:
        raise ValueError("Newline, carriage return, or null byte detected in headers.")
    return lines
