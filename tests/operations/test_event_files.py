"""Files of events: their form is recognised, and each problem has its line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pushrail_stream.operations.event_files import check_events
from tests.support.builders import event
from tests.support.samples import EXAMPLE

BAD = event(eventType="")
PRETTY = json.dumps([json.loads(event()), json.loads(BAD), json.loads(EXAMPLE)], indent=2).encode()


def checked(file: bytes) -> list[tuple[int, list[str]]]:
    found = check_events(file.splitlines(keepends=True))
    return [(line, [problem.field for problem in problems]) for line, problems in found]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (b"", []),
        (b"\n \r\n", []),
        (event(), [(1, [])]),
        (b"\n" + EXAMPLE, [(2, [])]),
        (event() + b"\n\n" + BAD + b"\r\n" + event(), [(1, []), (3, ["eventType"]), (4, [])]),
        (event() + b"\n" + event()[:-1] + b"\n" + event(), [(1, []), (2, ["value"]), (3, [])]),
        (b"garbage\n" + event(), [(1, ["value"]), (2, [])]),
        (b"[" + event() + b"," + BAD + b"]", [(1, []), (1, ["eventType"])]),
        (PRETTY, [(2, []), (13, ["eventType"]), (24, [])]),
        (b"[]", []),
        (EXAMPLE[:-2], [(1, ["value"])]),
        (b"[" + event(), [(1, ["value"])]),
        (b"{\n}", [(1, ["eventType", "occurredAt", "source", "customerExternalId", "idempotencyKey", "payload"])]),
    ],
)
def test_each_event_has_its_line_and_problems(file: bytes, expected: list[tuple[int, list[str]]]) -> None:
    assert checked(file) == expected


def test_json_lines_are_checked_as_they_come() -> None:
    def endless() -> Iterator[bytes]:
        yield event()
        yield BAD
        raise AssertionError("read ahead")

    found = check_events(endless())
    assert [next(found).line, next(found).line] == [1, 2]
