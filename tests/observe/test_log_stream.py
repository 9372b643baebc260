"""A log that cannot be written loses and counts lines, raises nothing, and goes on when it can be written again."""

from __future__ import annotations

import fcntl
import io
import os
import select
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, TextIO

import pytest

from pushrail_stream.observe import log_stream
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.logging import open_log
from tests.support.signals import BrokenPipe


@pytest.fixture(autouse=True)
def _none_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogStream, "lost_lines", 0)


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A descriptor to read from, and a stream to write to."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield reading, stream


def test_an_unwritten_line_is_counted() -> None:
    closed = io.StringIO()
    closed.close()
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        streams: list[TextIO] = [BrokenPipe(), closed, full]
        for count, stream in enumerate(streams, 1):
            open_log("info", stream=stream, as_json=True).info("said")
            assert LogStream.lost_lines == count


def read_all(descriptor: int) -> bytes:
    """The present content of a pipe."""
    os.set_blocking(descriptor, False)
    found = b""
    with suppress(BlockingIOError):
        while True:
            found += os.read(descriptor, 2**16)
    return found


def test_without_standard_error_every_line_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    open_log("info").info("said")
    assert LogStream.lost_lines == 1


def test_a_gone_reader_costs_lines(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    os.close(reading)
    open_log("info", stream=stream).info("said")
    assert LogStream.lost_lines == 1


class Waits:
    """Stands for `select.poll` and keeps the time-outs, in milliseconds, after which there was no room."""

    in_vain: ClassVar[list[int]]

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register

    def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
        """As the real one."""
        ready = self._poll.poll(timeout_ms)
        if not ready:
            Waits.in_vain.append(timeout_ms)
        return ready


def test_a_stopped_reader_delays_nothing(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, stream = pipe
    room = fcntl.fcntl(stream.fileno(), fcntl.F_GETPIPE_SZ)
    log = LogStream(stream)
    Waits.in_vain = []
    monkeypatch.setattr(log_stream, "select", SimpleNamespace(poll=Waits, POLLOUT=select.POLLOUT))
    for number in range(200):
        log.write(f"{number:06}" + "x" * (room // 20) + "\n")
    lost = LogStream.lost_lines
    assert 0 < lost < 200
    assert Waits.in_vain == [100] + [0] * (lost - 1), "only the first lost line is waited for"
    first = read_all(reading)
    log.write("again\n")
    lines = (first + read_all(reading)).decode().splitlines()
    assert lines[-1] == "again", "on a line of its own, also behind one that was cut off"
    assert sum(len(line) == 6 + room // 20 for line in lines) == 200 - lost
    assert LogStream.lost_lines == lost
    os.close(reading)


def test_a_line_longer_than_a_pipes_buffer_is_whole(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    LogStream(stream).write("é" * 10_000 + "\n")
    assert os.read(reading, 100_000) == "é".encode() * 10_000 + b"\n"
    assert LogStream.lost_lines == 0
    os.close(reading)
