"""The stream of log lines. A line that cannot be written is counted and dropped, so the log never stops the process."""

from __future__ import annotations

import os
import select
from typing import ClassVar, Final, TextIO, final

_PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe takes without blocking once it says that it can be written to."""
_PATIENCE_MS: Final = 100
"""Longest wait for a slow reader, in milliseconds. After a lost line there is no wait until it reads again."""


@final
class LogStream:
    """Writes lines to a stream whose disk may be full, or whose reader may be gone or stuck.

    It writes to the stream's descriptor, because a buffer would write the rest of a lost line later, in pieces.
    """

    lost_lines: ClassVar[int] = 0
    """Lines of this process that were not written, or not to their end."""

    def __init__(self, out: TextIO | None) -> None:
        """``out`` None: the process has no such stream."""
        self._out = out
        self._descriptor = _descriptor(out)
        self._encoding = getattr(out, "encoding", None) or "utf-8"
        self._is_torn = False
        """Whether the last line was written only in part."""
        self._has_lost = False
        """Whether the last line was lost."""

    def write(self, line: str) -> None:
        """Write one line, line end included, or count it."""
        try:
            self._has_lost = not self._put(line)
        except (OSError, ValueError):  # a stream that was closed is a ValueError
            self._has_lost = True
        if self._has_lost:
            LogStream.lost_lines += 1

    def flush(self) -> None:
        """Do nothing: no line is held back."""

    def _put(self, line: str) -> bool:
        if self._out is None:
            return False
        if self._descriptor is None:
            self._out.write(line)
            self._out.flush()
            return True
        data = line.encode(self._encoding, "backslashreplace")
        rest = memoryview(b"\n" + data if self._is_torn else data)
        while rest and self._takes_more(self._descriptor):
            rest = rest[os.write(self._descriptor, rest[:_PIECE]) :]
            self._is_torn = bool(rest)
        return not rest

    def _takes_more(self, descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        return bool(poll.poll(0 if self._has_lost else _PATIENCE_MS))


def _descriptor(out: TextIO | None) -> int | None:
    """None for a stream in memory, or one that is closed."""
    try:
        return None if out is None else out.fileno()
    except ValueError:  # io.UnsupportedOperation is one too
        return None
