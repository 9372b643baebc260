"""A commit's metadata: read as it was written, and never for another offset or topic."""

from __future__ import annotations

import base64
import random
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.commit import (
    MAX_METADATA_CHARS,
    Committable,
    SettledMap,
    decode_settled,
    encode_metadata,
    epoch_of,
    new_commit,
    resumed_cursors,
    settled_map,
    topic_of,
    was_recreated,
)
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.core.offset_set import MAX_OFFSETS
from pushrail_stream.core.record import TopicIdentity
from tests.support.samples import MIRROR, RECREATED, TOPIC, texts


@given(st.integers(0, 2**60), st.sets(st.integers(0, 4000)) | st.sets(st.integers(0, MAX_OFFSETS - 1), max_size=40))
def test_the_map_is_read_as_it_was_written(head: int, indices: set[int]) -> None:
    settled = sorted(head + index for index in indices)
    assert decode_settled(Committable(head, encode_metadata(head, settled))) == settled


@pytest.mark.parametrize("epoch", [None, 0, 2**31 - 1])
def test_the_map_names_the_newest_leader_epoch_of_its_records(epoch: int | None) -> None:
    committed = Committable(5, encode_metadata(5, [7, 9], TOPIC, epoch))
    assert settled_map(TOPIC, committed) == SettledMap([7, 9], epoch)
    assert settled_map(TOPIC, committed.without_map()) == SettledMap([], epoch)
    assert epoch_of(committed) == epoch_of(committed.without_map()) == epoch
    assert committed.without_map().without_map() == committed.without_map()
    assert epoch_of(committed.without_map().shorter()) is None


def chance(share: float, offsets: int) -> list[int]:
    drawn = random.Random(1)
    return [offset for offset in range(1, offsets) if drawn.random() < share]


@pytest.mark.parametrize(
    "settled",
    [
        pytest.param(list(range(1, 10_000)), id="all"),
        pytest.param(list(range(1, 10_000, 2)), id="every second"),
        pytest.param([n for n in range(1, 10_000) if n % 7 and n % 11], id="with holes"),
        *(pytest.param(chance(share, 10_000), id=f"{share:.0%}") for share in (0.01, 0.1, 0.5, 0.9, 0.99)),
    ],
)
def test_a_map_of_ten_thousand_offsets_fits(settled: list[int]) -> None:
    head = 2**40
    text = encode_metadata(head, [head + index for index in settled])
    assert 0 < len(text) <= MAX_METADATA_CHARS == 3500
    assert text.isascii()
    assert decode_settled(Committable(head, text)) == [head + index for index in settled]


@given(
    st.integers(0, 2**60),
    st.sets(st.integers(0, 4000), min_size=1),
    st.integers(0, 2**60),
    st.sampled_from([None, TOPIC]),
)
def test_a_map_counts_for_its_own_offset_only(
    head: int, indices: set[int], other: int, topic: TopicIdentity | None
) -> None:
    metadata = encode_metadata(head, sorted(head + index for index in indices), topic)
    assert bool(settled_map(topic, Committable(other, metadata)).offsets) == (other == head)
    if other != head:
        assert topic_of(Committable(other, metadata)) is None


def test_a_commit_of_no_topic_is_one_of_a_deleted_topic() -> None:
    commit = Committable(7, encode_metadata(7, [9], TOPIC, 3)).of_no_topic()
    assert (commit.offset, decode_settled(commit), epoch_of(commit)) == (7, [], 3)
    assert was_recreated(topic_of(commit), TOPIC)
    assert not was_recreated(topic_of(commit), MIRROR)
    assert commit.of_no_topic() == commit
    assert Committable(7, "").of_no_topic() == Committable(7, "")


def test_another_topic_id_means_recreated() -> None:
    assert was_recreated(TOPIC, RECREATED)
    assert not was_recreated(TOPIC, TOPIC)
    assert not was_recreated(TOPIC, MIRROR), "a mirrored topic on another cluster is another one from the start"
    assert not was_recreated(None, TOPIC)
    assert not was_recreated(TOPIC, None)


def test_a_commit_is_shortened_in_two_steps() -> None:
    full = Committable(5, encode_metadata(5, [7], TOPIC))
    without_map = full.shorter()
    assert (topic_of(without_map), settled_map(TOPIC, without_map)) == (TOPIC, SettledMap([]))
    assert len(without_map.metadata) < len(full.metadata)
    assert without_map.shorter() == without_map.shorter().shorter() == Committable(5, "")
    assert Committable(5, "somebody else's").shorter() == Committable(5, "")


@pytest.mark.parametrize("topic", [None, TOPIC])
def test_a_map_over_the_brokers_limit_is_omitted(topic: TopicIdentity | None) -> None:
    text = encode_metadata(0, chance(0.5, MAX_OFFSETS), topic)
    assert text == encode_metadata(0, [], topic)
    assert bool(text) == (topic is not None)


def test_the_span_of_a_map_is_bounded() -> None:
    longest = [1, MAX_OFFSETS - 1]
    assert decode_settled(Committable(0, encode_metadata(0, longest))) == longest
    assert encode_metadata(0, [1, MAX_OFFSETS]) == ""
    assert encode_metadata(0, []) == ""


MAP_OF_ONE = encode_metadata(5, [7]).split(":")[3]


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "ps3:",
        "ps3",
        "ps1:abcde",
        "ps3:5:abc",
        " ps3:5::::",
        "somebody else's",
        '{"a": 1}',
        "ps3:5::é::",
        f"ps3:5::x/{MAP_OF_ONE}::",
    ],
)
def test_metadata_that_is_not_ours_says_nothing(metadata: str) -> None:
    assert decode_settled(Committable(5, metadata)) == []


@given(texts)
def test_no_metadata_can_raise(text: str) -> None:
    assert decode_settled(Committable(5, f"ps3:5::{text}::")) == []


SETTLED = [n for n in range(1, 3000) if n % 7 and n % 11 and n % 13]
MAP = encode_metadata(0, SETTLED)


@given(st.integers(4, len(MAP) - 1), st.sampled_from("09AZaz!~{"))
def test_a_damaged_map_settles_no_open_record(at: int, other: str) -> None:
    for damaged in (MAP[:at], MAP[:at] + other + MAP[at + 1 :], MAP[:at] + MAP[at + 1 :], MAP + other):
        assert decode_settled(Committable(0, damaged)) in ([], SETTLED)


def test_a_map_cut_short_says_nothing() -> None:
    for length in range(len(MAP)):
        assert decode_settled(Committable(0, MAP[:length])) == []


@pytest.mark.parametrize("size", [MAX_OFFSETS // 8 + 1, 10**6, 10**7])
def test_an_oversized_map_is_ignored(size: int) -> None:
    metadata = f"ps3:0::{base64.b85encode(zlib.compress(bytes([255]) * size)).decode()}::"
    tracemalloc.start()
    try:
        assert decode_settled(Committable(0, metadata)) == []
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


CURSOR = CursorState(
    destination_id="dst_1", owner="c0ffee", since=10, next=60, to=90, live=((20, 30),), oldest_ms=1_000,
    opened_ms=2_000, open=(12, 50),
)  # fmt: skip
NAMING = new_commit(100, [], TOPIC, None, encode_cursors([CURSOR]))
MOVED = NAMING._replace(offset=70)
"""The same commit after a tool has moved it."""


@pytest.mark.parametrize("topic", [TOPIC, None, RECREATED])
def test_the_cursors_of_a_commit_that_no_tool_has_changed_come_as_they_were(topic: TopicIdentity | None) -> None:
    assert resumed_cursors(NAMING, topic, lambda at_ms: at_ms - 960) == [CURSOR]


@pytest.mark.parametrize(("committed", "topic"), [(MOVED, TOPIC), (MOVED, None), (NAMING, MIRROR)])
def test_a_cursor_of_a_translated_commit_begins_at_the_time_of_its_oldest_event(
    committed: Committable, topic: TopicIdentity | None
) -> None:
    found = resumed_cursors(committed, topic, lambda at_ms: at_ms - 960)
    assert found == [replace(CURSOR, since=40, next=40, to=committed.offset, live=(), open=())]


@pytest.mark.parametrize("start", [None, 70, 71])
def test_a_translated_commit_has_no_cursor_where_the_live_reader_reads_its_events(start: int | None) -> None:
    assert resumed_cursors(MOVED, TOPIC, lambda _at_ms: start) == []
    assert resumed_cursors(MOVED, TOPIC, lambda _at_ms: 69) != []


def test_each_cursor_of_a_translated_commit_is_looked_up_at_its_own_time() -> None:
    newer = replace(CURSOR, destination_id="dst_2", oldest_ms=9_000)
    moved = new_commit(100, [], TOPIC, None, encode_cursors([CURSOR, newer]))._replace(offset=70)
    found = resumed_cursors(moved, TOPIC, {1_000: 5, 9_000: 80}.get)
    assert [(state.destination_id, state.next, state.to) for state in found] == [("dst_1", 5, 70)]
