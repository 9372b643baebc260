"""The text of cursors: read as it was written, short for many cursors, and never ignored when it is damaged."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.cursor_state import (
    CursorError,
    CursorState,
    decode_cursors,
    encode_cursors,
    owner_mark,
    pack_text,
)

OPENED = CursorState(destination_id="dst_1", since=10, next=10, oldest_ms=1_000, opened_ms=2_000)
PLAIN = encode_cursors([OPENED])

_offsets = st.integers(0, 2**50)
_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
STATES = st.builds(
    CursorState,
    destination_id=_names,
    owner=st.just("") | st.builds(owner_mark, st.text(max_size=3), st.text(max_size=3)),
    since=_offsets,
    next=_offsets,
    to=st.none() | _offsets,
    live=st.lists(st.tuples(_offsets, st.integers(1, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=2).map(tuple),
    oldest_ms=_offsets,
    opened_ms=_offsets,
    open=st.sets(st.integers(0, 3_000), max_size=20).map(lambda found: tuple(sorted(found))),
)
LISTS = st.lists(STATES, max_size=4, unique_by=lambda state: state.destination_id)


def by_name(states: list[CursorState]) -> dict[str, CursorState]:
    return {state.destination_id: state for state in states}


@given(LISTS, st.lists(_names, unique=True, max_size=5))
def test_cursors_are_read_as_they_were_written(cursors: list[CursorState], twins: list[str]) -> None:
    if cursors:
        cursors += [replace(cursors[0], destination_id=name) for name in twins if name not in by_name(cursors)]
    text = encode_cursors(cursors)
    assert by_name(decode_cursors(text)) == by_name(decode_cursors(pack_text(text))) == by_name(cursors)
    assert text.isascii()
    assert ":" not in text
    assert "@" not in text[:1]


def test_many_cursors_with_equal_numbers_cost_little_more_than_their_ids() -> None:
    dice = random.Random(1)
    opens = tuple(offset for offset in range(10**6, 10**6 + 3_000) if dice.random() < 0.5)
    first = replace(OPENED, owner="0123abcd", open=opens)
    cursors = [replace(first, destination_id=f"dst_{number:06}") for number in range(1_000)]
    one = len(encode_cursors([first]))
    assert len(encode_cursors(cursors)) < one + 1_000 * len(",dst_000000=0123abcd")


def test_a_long_text_is_shorter_when_it_is_packed() -> None:
    cursors = [replace(OPENED, destination_id=f"dst_{number:06}", since=number) for number in range(1_000)]
    text = "/".join(encode_cursors([cursor]) for cursor in cursors)
    assert len(pack_text(text)) < len(text) / 3
    assert encode_cursors(cursors) == pack_text(text)
    assert pack_text(PLAIN) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "dst_1",
        "1-,1,1,1,,",
        "1-,1,1,1,,,=",
        "1-,1,1,1,,,dst",
        "1,1,1,1,,,dst=",
        "x-,1,1,1,,,dst=",
        "1-x,1,1,1,,,dst=",
        "1-,-1,1,1,,,dst=",
        "1-,1,1,1,5,,dst=",
        "1-,1,1,1,5-,,dst=",
        "1-,1,1,1,5-4,,dst=",
        "1-,1,1,1,,damaged,dst=",
        "1-,1,1,1,,,dst=owner",
        "1-,1,1,1,,,dst_1=",
        "",
    ],
)
def test_cursors_that_cannot_be_read_are_never_ignored(text: str) -> None:
    with pytest.raises(CursorError):
        decode_cursors(f"{PLAIN}/{text}")


PACKED = pack_text(encode_cursors([replace(OPENED, destination_id=f"dst_{number}") for number in range(500)]))


@given(st.integers(0, len(PACKED) - 1), st.sampled_from("09AZaz!~{"))
def test_a_damaged_text_is_never_taken_for_another_one(at: int, other: str) -> None:
    """The last character of base 85 may have no effect: then the text still says the same."""
    for damaged in (PACKED[: at + 1], PACKED[:at] + other + PACKED[at + 1 :], PACKED[:at] + PACKED[at + 1 :]):
        try:
            found = decode_cursors(damaged)
        except CursorError:
            continue
        assert found == decode_cursors(PACKED)


def test_a_cursor_covers_its_open_offsets_and_its_parts() -> None:
    state = replace(OPENED, since=10, next=20, to=40, live=((25, 30),), open=(5, 12))
    covered = [offset for offset in range(50) if state.covers(offset)]
    assert covered == [5, 12, *range(20, 25), *range(30, 40)]
    assert replace(state, to=None).covers(2**40)
