"""Commits become shorter when brokers refuse them, and never lose their cursors."""

from __future__ import annotations

from pushrail_stream.core.commit import (
    MIN_METADATA_CHARS,
    Committable,
    cursor_field,
    encode_metadata,
    settled_map,
    topic_of,
)
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.pipeline.metadata_room import MetadataRoom
from tests.support.samples import TOPIC

STATE = CursorState(destination_id="dst_1", since=0, next=3, oldest_ms=1, opened_ms=1)
COMMIT = Committable(5, encode_metadata(5, [7], TOPIC, None, encode_cursors([STATE])))


def test_a_refused_commit_loses_its_map_first_and_then_its_cursors_go_to_a_snapshot() -> None:
    room = MetadataRoom()
    assert room.fitting(COMMIT) is COMMIT
    room.shorten([COMMIT])
    short = room.fitting(COMMIT)
    assert (settled_map(TOPIC, short).offsets, cursor_field(short)) == ([], cursor_field(COMMIT))
    room.shorten([short])
    shortest = room.fitting(COMMIT)
    assert (shortest.needs_snapshot, shortest.cursors) == (True, cursor_field(COMMIT))
    assert room.can_name_cursors
    room.shorten([shortest])
    assert not room.can_name_cursors, "not even the shortest one was taken"
    assert room.fitting(COMMIT) == shortest


def test_a_commit_without_cursors_names_its_topic_as_long_as_the_broker_has_room_for_cursors() -> None:
    room, plain = MetadataRoom(), Committable(5, encode_metadata(5, [7], TOPIC))
    room.shorten([COMMIT.without_map()])
    assert (topic_of(room.fitting(plain)), settled_map(TOPIC, room.fitting(plain)).offsets) == (TOPIC, [])
    room.shorten([room.fitting(plain)])
    assert room.fitting(plain) == Committable(5, "")
    assert not room.can_name_cursors, "their place needs more room"


def test_an_earlier_refusal_changes_nothing() -> None:
    room = MetadataRoom()
    room.shorten([room.fitting(COMMIT)])
    shorter = room.fitting(COMMIT)
    room.shorten([COMMIT])
    assert room.fitting(COMMIT) == shorter


def test_a_broker_without_room_for_the_place_of_a_snapshot_takes_no_cursors() -> None:
    room = MetadataRoom()
    for limit, has_room in ((MIN_METADATA_CHARS - 1, False), (MIN_METADATA_CHARS, True)):
        room.limit(limit)
        assert room.can_name_cursors == has_room
