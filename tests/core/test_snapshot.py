"""Snapshots: cursors that do not fit into a commit's metadata, and the commit that names them."""

from __future__ import annotations

import random
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.commit import (
    MAX_METADATA_CHARS,
    MIN_METADATA_CHARS,
    Committable,
    cursors_of,
    has_cursors,
    new_commit,
    settled_map,
    topic_of,
)
from pushrail_stream.core.cursor_state import CursorError, CursorState, encode_cursors
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.snapshot import (
    SnapshotPlace,
    snapshot_key,
    snapshot_of,
    snapshot_value,
    with_place,
    with_snapshot,
)
from tests.core.test_cursor_state import LISTS, OPENED, by_name
from tests.support.samples import RECREATED, TOPIC

P = Partition("events", 3)
PLACE = SnapshotPlace(7, 99)
MANY = [replace(OPENED, destination_id=f"dst_{number}", since=number * 7_919 % 10_007) for number in range(2_000)]


def written(commit: Committable) -> Committable:
    """The commit as Kafka has it, once its snapshot has a place."""
    return with_place(commit, PLACE)._replace(cursors="")


@given(LISTS, st.sampled_from([None, TOPIC]), st.lists(st.integers(1, 500), unique=True))
def test_a_commit_names_its_cursors(cursors: list[CursorState], topic: TopicIdentity, settled: list[int]) -> None:
    commit = new_commit(0, sorted(settled), topic, None, encode_cursors(cursors))
    assert not commit.needs_snapshot
    assert by_name(cursors_of(commit)) == by_name(cursors)
    assert by_name(cursors_of(commit._replace(offset=99))) == by_name(cursors)
    assert has_cursors(commit) == bool(cursors)
    assert by_name(cursors_of(commit.without_map())) == by_name(cursors)
    for shorter in (commit, commit.shorter(), commit.shorter().shorter(), commit.without_map().without_cursors()):
        assert by_name(cursors_of(shorter)) == by_name(cursors), "a commit without its cursors is never made"


@pytest.mark.parametrize("metadata", ["", "another product's", "ps3:1:topic"])
def test_metadata_without_cursors_has_none(metadata: str) -> None:
    assert cursors_of(Committable(1, metadata)) == []


@pytest.mark.parametrize("topic", [None, TOPIC])
def test_cursors_that_do_not_fit_go_to_a_snapshot(topic: TopicIdentity | None) -> None:
    commit = new_commit(5, [7], topic, 3, encode_cursors(MANY))
    assert commit.needs_snapshot
    made = written(commit)
    assert len(made.metadata) <= MAX_METADATA_CHARS
    assert snapshot_of(made) == PLACE
    assert not with_place(commit, PLACE).needs_snapshot
    assert (settled_map(topic, made).offsets, topic_of(made)) == ([7], topic)
    read = with_snapshot(made, P, snapshot_value(P, commit))
    assert by_name(cursors_of(read)) == by_name(MANY)
    assert len(snapshot_value(P, commit)) < 100_000
    assert snapshot_key(P) == b"events/3"


def test_the_map_is_left_out_before_the_cursors() -> None:
    few = MANY[:40]
    dice = random.Random(1)
    scattered = [offset for offset in range(6, 60_000) if dice.random() < 0.5]
    commit = new_commit(5, scattered, TOPIC, None, encode_cursors(few))
    assert not commit.needs_snapshot
    assert settled_map(TOPIC, commit).offsets == []
    assert by_name(cursors_of(commit)) == by_name(few)


def test_a_refused_commit_loses_its_map_and_then_its_cursors_go_to_a_snapshot() -> None:
    commit = new_commit(5, [7], TOPIC, 3, encode_cursors([OPENED]))
    without_map = commit.shorter()
    assert (without_map.needs_snapshot, settled_map(TOPIC, without_map).offsets) == (False, [])
    shortest = without_map.shorter()
    assert shortest.needs_snapshot
    assert shortest.shorter() == shortest
    assert [commit.shortenings, without_map.shortenings, shortest.shortenings] == [0, 1, 2]
    assert written(shortest).shortenings == 2
    assert cursors_of(with_snapshot(written(shortest), P, snapshot_value(P, shortest))) == [OPENED]


def test_the_shortest_commit_with_cursors_is_short() -> None:
    topic = TopicIdentity("c" * 22, "t" * 22)
    commit = new_commit(2**63 - 1, [], topic, 2**31 - 1, encode_cursors([OPENED])).shorter().shorter()
    longest = with_place(commit, SnapshotPlace(2**31 - 1, 2**63 - 1))
    assert len(longest.metadata) <= MIN_METADATA_CHARS


def test_a_commit_says_the_same_wherever_its_snapshot_is() -> None:
    commit = new_commit(5, [7], TOPIC, 3, encode_cursors(MANY))
    assert commit.says_as(written(commit))
    assert written(commit).says_as(with_place(commit, SnapshotPlace(0, 0)))
    assert not commit.says_as(new_commit(5, [7], TOPIC, 3, encode_cursors(MANY[1:])))
    assert not commit.says_as(new_commit(6, [7], TOPIC, 3, encode_cursors(MANY)))
    assert not commit.says_as(None)


COMMIT = new_commit(5, [7], TOPIC, 3, encode_cursors(MANY))
VALUE = snapshot_value(P, COMMIT)


@pytest.mark.parametrize(
    ("partition", "value"),
    [
        (P, None),
        (P, b""),
        (P, b"[]"),
        (P, VALUE[:-10]),
        (P, snapshot_value(P, new_commit(5, [7], TOPIC, 3, encode_cursors(MANY[1:])))),
        (P, snapshot_value(P, new_commit(6, [7], TOPIC, 3, encode_cursors(MANY)))),
        (P, snapshot_value(P, new_commit(5, [7], RECREATED, 3, encode_cursors(MANY)))),
        (P, snapshot_value(P._replace(number=4), COMMIT)),
        (P, snapshot_value(P._replace(topic="other"), COMMIT)),
        (P._replace(number=4), VALUE),
        (P, orjson.dumps(orjson.loads(VALUE) | {"cursors": "!damaged"})),
    ],
)
def test_the_snapshot_of_another_commit_is_never_taken(partition: Partition, value: bytes | None) -> None:
    assert cursors_of(with_snapshot(written(COMMIT), P, VALUE))
    with pytest.raises(CursorError):
        with_snapshot(written(COMMIT), partition, value)


def test_cursors_are_never_read_without_their_snapshot() -> None:
    with pytest.raises(CursorError):
        cursors_of(written(COMMIT))
    with pytest.raises(CursorError):
        snapshot_of(COMMIT)


def test_a_moved_commit_still_names_its_snapshot() -> None:
    moved = written(COMMIT)._replace(offset=1_000)
    assert by_name(cursors_of(with_snapshot(moved, P, VALUE))) == by_name(MANY)


@pytest.mark.parametrize("place", ["", ".1", ".1.", ".x.1", ".1.2.3", ".-1.2"])
def test_a_damaged_place_is_never_ignored(place: str) -> None:
    metadata = written(COMMIT).metadata.replace(".7.99", place)
    with pytest.raises(CursorError):
        snapshot_of(Committable(5, metadata))


@pytest.mark.parametrize(
    "commit",
    [
        Committable(5, ""),
        new_commit(5, [7], TOPIC, 3, ""),
        new_commit(5, [], TOPIC, 3, encode_cursors([OPENED])),
    ],
)
def test_a_commit_with_room_for_its_cursors_names_no_snapshot(commit: Committable) -> None:
    assert snapshot_of(commit) is None
