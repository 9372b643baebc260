"""Files of canonical events: one event, an array of events, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from pushrail_stream.events import Problem, problems

_SPACE: Final = b" \t\r\n"


class CheckedEvent(NamedTuple):
    """An event of a file, and the rules that it breaks."""

    line: int
    """Line of its first character, from 1."""
    problems: list[Problem]


def check_events(lines: Iterable[bytes]) -> Iterator[CheckedEvent]:
    """Check each event of a file. JSON lines are checked as they come."""
    for line, value in _events(lines):
        yield CheckedEvent(line, problems(value))


def _events(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    numbered = enumerate(lines, 1)
    is_first = True
    for number, line in numbered:
        text = line.strip(_SPACE)
        if is_first and (text.startswith(b"[") or (text.startswith(b"{") and not text.endswith(b"}"))):
            yield from _elements(number, line + b"".join(rest for _, rest in numbered))
        elif text:
            yield number, line
            is_first = False


def _elements(line: int, document: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of an array; any other document is one event."""
    try:
        elements = msgspec.json.decode(document, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        yield line, document
        return
    position = 0
    for element in elements:
        value = bytes(element)
        begin = document.index(value, position)
        line += document.count(b"\n", position, begin)
        yield line, value
        position = begin
