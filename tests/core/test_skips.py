"""Orders to step over unreadable batches: a worker finds those that were written."""

from __future__ import annotations

import json

import pytest

from pushrail_stream.core.record import Partition
from pushrail_stream.core.skips import CODE, Skip, find_skip, read_skip, skip_dead_letter, skip_mark

EVENTS = Partition("pushrail.events", 3)
SKIP = Skip(EVENTS, 10, 20, "a batch of 600 MB", 1_779_805_270_001, "topic-1")


def marks(*skips: Skip) -> dict[str, bytes]:
    return dict(skip_mark(skip) for skip in skips)


def test_an_order_is_found_within_its_offsets() -> None:
    known = marks(SKIP) | {"events:rp-1": b"{}", "pushrail.events/3/10 dst_1": b"{}"}
    assert [find_skip(known, EVENTS, at, "topic-1") for at in (9, 10, 19, 20)] == [None, SKIP, SKIP, None]
    assert find_skip(known, Partition("pushrail.events", 4), 10, "topic-1") is None
    assert find_skip(known, Partition("pushrail.retry.10s", 3), 10, "topic-1") is None


def test_an_order_dies_with_its_topic() -> None:
    assert find_skip(marks(SKIP), EVENTS, 10, "topic-2") is None
    assert find_skip(marks(SKIP), EVENTS, 10, None) == SKIP
    anonymous = SKIP._replace(topic_id=None)
    assert find_skip(marks(anonymous), EVENTS, 10, "topic-2") == anonymous


def test_the_order_that_reaches_furthest_counts() -> None:
    longer = SKIP._replace(first=12, end=30)
    assert find_skip(marks(SKIP, longer), EVENTS, 12, "topic-1") == longer


@pytest.mark.parametrize(
    "value", [b"", b"null", b"[1]", b"{}", b"\xff", json.dumps({"topic": "t", "partition": "0"}).encode(), b"[" * 9_999]
)
def test_a_record_that_is_no_order_is_ignored(value: bytes) -> None:
    assert read_skip(value) is None
    assert find_skip({"skip:x": value}, EVENTS, 10, None) is None


@pytest.mark.parametrize(("first", "end"), [(0, 10**30), (0, 2**63), (-(10**30), 11), (-1, 11), (10, 10), (11, 10)])
def test_an_order_with_bad_offsets_is_none(first: int, end: int) -> None:
    forged = marks(SKIP._replace(first=first, end=end))
    assert find_skip(forged, EVENTS, max(first, 0), "topic-1") is None
    assert [read_skip(value) for value in forged.values()] == [None]


def test_a_forged_reason_can_be_printed() -> None:
    [value] = marks(SKIP._replace(reason="half a pair: \ud800")).values()
    assert read_skip(value) == SKIP._replace(reason="half a pair: ?")


def test_its_dead_letter_names_the_offsets() -> None:
    letter = skip_dead_letter(SKIP)
    assert (letter.record.key, letter.record.value, letter.reason, letter.code) == (None, None, "undecodable", CODE)
    headers = dict(letter.headers())
    assert headers["pushrail-origin"] == b"pushrail.events/3/10"
    assert headers["pushrail-error-message"] == (
        b"offsets 10 to 19 could not be read and were stepped over by an operator: a batch of 600 MB"
    )
