"""The index of attempts finds the same records as the filter, and holds each record once."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.attempts import (
    AttemptFilter,
    Indexed,
    fit_for_index,
    newest_of,
)
from tests.support.attempt_records import AT_MS, record, said, world

FILTERS = [
    AttemptFilter(key="key-4"),
    AttemptFilter(origin="pushrail.events/0/5"),
    AttemptFilter(customer="acct_1"),
    AttemptFilter(destination="dst_2", status="retrying"),
    AttemptFilter(event_type="invoice.paid"),
    AttemptFilter(code="ThrottlingException"),
    AttemptFilter(correlation_id="c-1"),
    AttemptFilter(replay="rp-1"),
    AttemptFilter(vendor="globex"),
    AttemptFilter(since_ms=AT_MS + 3000, until_ms=AT_MS + 7000),
    AttemptFilter(),
    AttemptFilter(key="nobody"),
    AttemptFilter(key="nobody", customer=os.fsdecode(b"\xff")),
]


@pytest.mark.parametrize("wanted", FILTERS)
def test_the_index_obeys_the_filter(wanted: AttemptFilter, tmp_path: Path) -> None:
    indexed = [fit_for_index(record(n, value)) for n, value in enumerate(world())]
    with AttemptIndex.open(tmp_path / "index", "pushrail.attempts") as index:
        index.add((one for one in indexed if one), {0: 9})
        found = [json.loads(attempt.text) for attempt in index.find(wanted)]
    attempts = [one.attempt for one in indexed if one]
    assert found == [json.loads(attempt.text) for attempt in attempts if wanted.matches(attempt)]
    assert bool(found) == (wanted.key != "nobody")


def test_records_come_back_unchanged(tmp_path: Path) -> None:
    raw = [b'{ "at":"2026-11-24T10:00:09Z",  "odd":1.50 }', b'{"at":"2026-11-24T10:00:01Z","x":"\xc3\xab"}']
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        index.add([one for n in range(2) if (one := fit_for_index(record(n, raw[n])))], {0: 2})
        assert [attempt.text for attempt in index.find(AttemptFilter())] == raw[::-1]


def test_colliding_checksums_are_told_apart(tmp_path: Path) -> None:
    one, other = "plumless", "buckeroo"
    assert zlib.crc32(one.encode()) == zlib.crc32(other.encode())
    indexed = [fit_for_index(record(n, said(n, idempotencyKey=key))) for n, key in enumerate((one, other) * 3)]
    with AttemptIndex.open(tmp_path / "index", "pushrail.attempts") as index:
        index.add((found for found in indexed if found), {0: 6})
        for key in (one, other):
            assert {attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter(key=key))} == {key}
            assert [attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter(key=key), 2)] == [key] * 2


def test_the_index_is_smaller_than_the_records(tmp_path: Path) -> None:
    count, size = 5_000, 0
    dice = random.Random(1)

    def realistic(number: int) -> Iterator[Indexed]:
        nonlocal size
        ids = {name: str(UUID(int=dice.getrandbits(128))) for name in ("attemptId", "requestId", "eventBridgeEventId")}
        arn = f"arn:aws:events:us-east-1:123456789012:event-bus/bus-{number % 50}"
        rest = {"durationMs": 12, "message": None, "httpStatus": 200, "batchSize": 10, "busArn": arn, "replayId": None}
        found = fit_for_index(record(number, said(number, **ids, **rest, correlationId=ids["requestId"][:12])))
        assert found is not None
        size += len(found.attempt.text)
        yield found

    with AttemptIndex.open(tmp_path / "index", "pushrail.attempts") as index:
        index.add((one for number in range(count) for one in realistic(number)), {0: count})
    assert (tmp_path / "index").stat().st_size < size


def test_a_record_read_again_is_kept_once(tmp_path: Path) -> None:
    rows = [one for n in range(5) if (one := fit_for_index(record(n, said(n))))]
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        index.add(rows, {0: 5})
        index.add(rows[3:], {0: 5, 1: 7})
        assert (index.count(), index.offsets()) == (5, {0: 5, 1: 7})


def test_the_newest_are_found_oldest_first(tmp_path: Path) -> None:
    rows = [one for n, value in enumerate(world()[::-1]) if (one := fit_for_index(record(n, value)))]
    attempts = [one.attempt for one in rows]
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        index.add(rows, {0: 9})
        found = [attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter(), 3)]
        assert found == [attempt.get("idempotencyKey") for attempt in newest_of(attempts, 3)]
        assert found == ["key-6", "key-7", "key-8"]
        assert len(list(index.find(AttemptFilter(), 99))) == len(newest_of(attempts, 99)) == 9


def test_a_recreated_topic_begins_a_new_index(tmp_path: Path) -> None:
    old, new = (fit_for_index(record(0, said(n))) for n in (1, 2))
    assert old is not None
    assert new is not None
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        assert not index.renew("first")
        index.add([old], {0: 5, 1: 3})
        index.drop_before(AT_MS - 1)
        assert not index.renew(None), "Kafka does not say"
        assert not index.renew("first")
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        assert index.is_of("first")
        assert index.is_of(None)
        assert not index.is_of("second")
        assert index.renew("second")
        assert (index.offsets(), index.count(), index.since_ms) == ({}, 0, None)
        index.add([new], {0: 1})
        assert [attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter())] == ["key-2"]
        assert not index.renew("second")


def test_a_rewritten_offset_has_the_new_record(tmp_path: Path) -> None:
    """A broker that lost its newest records gives their offsets to others."""
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        for number in (1, 2):
            index.add([one for one in [fit_for_index(record(0, said(number)))] if one], {0: 1})
        assert [attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter())] == ["key-2"]


def test_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    rows = [one for n in range(9) if (one := fit_for_index(record(n, said(n))))]
    with (
        AttemptIndex.open(tmp_path / "index", "t") as index,
        AttemptIndex.open(tmp_path / "index", "t") as writer,
    ):
        writer.add(rows[:5], {0: 5})
        with index.snapshot():
            assert index.offsets() == {0: 5}
            writer.add(rows[5:], {0: 9})
            assert len(list(index.find(AttemptFilter()))) == 5
        assert (index.offsets(), index.count()) == ({0: 9}, 9)


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    one = fit_for_index(record(0, said(0)))
    assert one is not None

    def damaged(use: Callable[[AttemptIndex], object]) -> None:
        with AttemptIndex.open(tmp_path / "index", "t") as index:
            with closing(sqlite3.connect(tmp_path / "index")) as database:
                database.execute("DROP TABLE attempts")
            use(index)

    for use in (
        lambda index: index.add([one], {0: 1}),
        lambda index: index.drop_before(AT_MS),
        lambda index: list(index.find(AttemptFilter())),
        lambda index: index.count(),
    ):
        with pytest.raises(OperatorError, match=r"index: the index cannot be used: no such table: "):
            damaged(use)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    rows = [one for n in range(5) if (one := fit_for_index(record(n, said(n))))]

    def broken() -> Any:
        yield from rows[:3]
        raise KeyboardInterrupt

    with AttemptIndex.open(tmp_path / "index", "t") as index:
        with pytest.raises(KeyboardInterrupt):
            index.add(broken(), {0: 5})
        assert (index.count(), index.offsets()) == (0, {})
        index.add(rows, {0: 5})
        assert index.count() == 5


def test_old_records_are_removed(tmp_path: Path) -> None:
    rows = [one for n, value in enumerate(world()) if (one := fit_for_index(record(n, value)))]
    with AttemptIndex.open(tmp_path / "index", "t") as index:
        index.add(rows, {0: 9})
        assert index.since_ms is None
        assert index.drop_before(AT_MS + 4000) == 4
        assert index.drop_before(AT_MS + 2000) == 0
        assert index.since_ms == AT_MS + 4000, "what was dropped does not come back"
        assert index.count() == 5
        assert index.offsets() == {0: 9}


def test_an_index_of_another_topic_is_refused(tmp_path: Path) -> None:
    with AttemptIndex.open(tmp_path / "index", "one"):
        pass
    with (
        pytest.raises(OperatorError, match="is the index of one and not of two"),
        AttemptIndex.open(tmp_path / "index", "two"),
    ):
        pass
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 30)
    with pytest.raises(OperatorError, match="is no index of attempts"), AttemptIndex.open(tmp_path / "text", "one"):
        pass
    with pytest.raises(OperatorError, match="cannot be opened"), AttemptIndex.open(tmp_path / "no" / "where", "one"):
        pass


def test_a_lookup_by_key_reads_no_table(tmp_path: Path) -> None:
    with AttemptIndex.open(tmp_path / "index", "t"):
        pass
    with closing(sqlite3.connect(tmp_path / "index")) as database:
        for column in ("key", "origin", "customer", "destination"):
            query = f"EXPLAIN QUERY PLAN SELECT record FROM attempts WHERE {column} = 'x'"  # noqa: S608 - named above
            [plan] = database.execute(query).fetchall()
            assert "USING INDEX" in plan[3]
