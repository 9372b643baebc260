"""The oracle's own reading of the cursors of commits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pushrail_stream.core.commit import Committable, encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors, pack_text
from pushrail_stream.core.record import Partition
from pushrail_stream.core.snapshot import SnapshotPlace, snapshot_value, with_place
from tests.simulation.oracle.commit_cursors import (
    CursorSeen,
    find_snapshot,
    read_cursors,
    read_snapshot,
    snapshot_place,
)

OPEN = CursorState(destination_id="one", since=7, next=90, oldest_ms=5, opened_ms=6, open=(3, 8, 70_000))
AGAIN = CursorState(destination_id="six", since=7, next=9, to=15, oldest_ms=5, opened_ms=6, live=((10, 12),))
ENDED = CursorState(destination_id="two", since=8, next=9, to=12, oldest_ms=5, opened_ms=6)


def commit_of(*states: CursorState) -> Committable:
    return Committable(7, encode_metadata(7, [9], None, 3, pack_text(encode_cursors(list(states)))))


def test_the_cursors_of_a_commit_are_read() -> None:
    many = [replace(OPEN, destination_id=f"many{number}", since=number) for number in range(100)]
    assert len(read_cursors(commit_of(*many))) == 100
    assert read_cursors(commit_of(OPEN, ENDED)) == {
        "one": CursorSeen("one", 7, 90, None, 5, frozenset({3, 8, 70_000})),
        "two": CursorSeen("two", 8, 9, 12, 5, frozenset()),
    }


def test_a_cursor_has_its_open_offsets_and_those_that_it_has_not_read() -> None:
    seen = read_cursors(commit_of(OPEN, ENDED))
    assert [offset for offset in range(100) if seen["one"].covers(offset)] == [3, 8, *range(90, 100)]
    again = read_cursors(commit_of(AGAIN))["six"]
    assert [offset for offset in range(100) if again.covers(offset)] == [9, 12, 13, 14]
    assert [offset for offset in range(100) if seen["two"].covers(offset)] == [9, 10, 11]


@pytest.mark.parametrize("metadata", ["", "other", "ps3:7:topic", "ps3:7:topic:::cluster"])
def test_other_metadata_has_no_cursors(metadata: str) -> None:
    assert read_cursors(Committable(7, metadata)) == {}


def test_a_damaged_cursor_is_an_error() -> None:
    with pytest.raises(ValueError, match="unpack"):
        read_cursors(Committable(7, "ps3:7:topic::7-,90:cluster"))


def test_the_cursors_of_a_snapshot_are_read() -> None:
    here, plain = Partition("events", 3), commit_of(OPEN)
    made = plain.without_map().without_cursors()
    assert snapshot_place(plain) is snapshot_place(made) is None, "no record is named"
    named = with_place(made, SnapshotPlace(1, 25))._replace(cursors="")
    assert snapshot_place(named) == (1, 25)
    value = snapshot_value(here, made)
    assert read_cursors(named._replace(cursors=read_snapshot(named, here, value))) == read_cursors(plain)
    assert read_cursors(named) == {}
    assert read_snapshot(named, Partition("events", 4), value) == ""
    assert read_snapshot(named, here, None) == ""


def test_a_copied_snapshot_is_found_at_another_place() -> None:
    here, plain = Partition("events", 3), commit_of(OPEN)
    made = plain.without_map().without_cursors()
    named, value = with_place(made, SnapshotPlace(1, 25))._replace(cursors=""), snapshot_value(here, made)
    other = snapshot_value(here, made._replace(cursors="another text"))
    assert find_snapshot(named, here, [None, other, value]) == made.cursors
    assert find_snapshot(named, here, [None, other]) == "", "the digest is of other cursors"
    assert find_snapshot(named, Partition("events", 4), [value]) == ""
