"""A commit names every cursor, and costs time only for those that have changed."""

from __future__ import annotations

import pytest

from pushrail_stream.core.commit import Committable, cursors_of
from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import CursorState, decode_cursors
from pushrail_stream.core.cursor_texts import Budget, CursorTexts
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord

HEAD = 1_000
MANY = 1_280
"""Ten blocks."""


def cursors(count: int) -> tuple[OffsetTracker, dict[str, Cursor]]:
    states = [
        CursorState(
            destination_id=f"dst_{number}", since=number, next=number, oldest_ms=1, opened_ms=2, open=(number // 2,)
        )
        for number in range(2, count + 2)
    ]
    tracker = OffsetTracker(Committable(HEAD, ""), None, states)
    return tracker, tracker.cursors


def told(text: str | None) -> dict[str, CursorState]:
    assert text is not None
    return {state.destination_id: state for state in decode_cursors(text)}


@pytest.mark.parametrize("count", [3, MANY])
def test_a_text_names_every_cursor(count: int) -> None:
    _, named = cursors(count)
    text = CursorTexts().text(named, HEAD, None)
    assert told(text) == {name: cursor.state() for name, cursor in named.items()}


def test_no_text_is_made_twice_for_a_cursor_that_has_not_changed() -> None:
    _, named = cursors(MANY)
    texts = CursorTexts()
    before = texts.text(named, HEAD, Budget(10))
    entries = {name: cursor.entry() for name, cursor in named.items()}
    named["dst_7"].close(HEAD)
    assert not named["dst_7"].is_unchanged
    assert texts.text(named, HEAD, Budget(0)) != before
    assert all(cursor.entry() is entries[name] for name, cursor in named.items() if name != "dst_7")


def test_a_cursor_that_took_over_a_delivery_is_in_the_next_text() -> None:
    tracker, named = cursors(MANY)
    texts = CursorTexts()
    texts.text(named, HEAD, None)
    pending = tracker.track(HEAD, 1, 1)
    assert pending is not None
    named["dst_7"].close(HEAD)
    named["dst_7"].reopen(HEAD + 1)
    named["dst_900"].adopt(PendingRecord(tracker, 0, 1, 1, 5))
    newest = told(texts.text(named, HEAD, Budget(2)))
    assert newest["dst_7"].live == ((HEAD, HEAD + 1),)
    assert newest["dst_900"].open == (0, 450)


def test_a_cursor_that_has_less_to_deliver_is_in_one_of_the_next_texts() -> None:
    _, named = cursors(MANY)
    texts = CursorTexts()
    texts.text(named, HEAD, None)
    for cursor in named.values():
        cursor.close(HEAD)
    ended = []
    for _ in range(10):
        states = told(texts.text(named, HEAD, Budget(0)))
        assert len(states) == MANY
        ended.append(sum(state.to is not None for state in states.values()))
    assert ended == [128 * turn for turn in range(1, 11)]
    for cursor in named.values():
        cursor.begin_age(9)
    assert {state.opened_ms for state in told(texts.text(named, HEAD, None)).values()} == {9}, "the last one"


def test_there_is_no_text_while_the_budget_does_not_suffice() -> None:
    _, named = cursors(MANY)
    texts = CursorTexts()
    for turn in range(3):
        budget = Budget(3)
        assert texts.text(named, HEAD, budget) is None, turn
        assert (budget.left, budget.is_exceeded) == (0, True)
    budget = Budget(3)
    assert len(told(texts.text(named, HEAD, budget))) == MANY
    assert (budget.left, budget.is_exceeded) == (2, False)


def test_a_cursor_that_is_gone_is_not_named_for_long() -> None:
    _, named = cursors(MANY)
    texts = CursorTexts()
    texts.text(named, HEAD, None)
    gone = [*named][:200]
    for name in gone:
        del named[name]
    for _ in range(2):
        states = told(texts.text(named, HEAD, Budget(0)))
    assert states.keys() == named.keys()
    named.update(cursors(3)[1])
    assert told(texts.text(named, HEAD, Budget(1))).keys() == named.keys()
    for name in [*named][3:]:
        del named[name]
    assert told(texts.text(named, HEAD, Budget(0))).keys() == named.keys()
    assert told(texts.text({}, HEAD, None)) == {}


def test_a_cursor_that_is_done_is_not_named_among_few() -> None:
    tracker, named = cursors(2)
    for pending in [cursor.begin(offset, 1, 1) for cursor in named.values() for offset in range(5)]:
        if pending is not None:
            pending.settle()
    named["dst_2"].close(HEAD)
    named["dst_2"].pass_to(HEAD, 0)
    commit = tracker.committable()
    assert commit is not None
    assert [state.destination_id for state in cursors_of(commit)] == ["dst_3"]
