"""A cursor: every delivery of its destination has one owner, and the next owner continues where this one stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pushrail_stream.core.commit import Committable, cursors_of
from pushrail_stream.core.cursor import Cursor, LostEvents
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from tests.support.samples import TOPIC

OPENED = CursorState(destination_id="dst_1", since=10, next=10, oldest_ms=1_000, opened_ms=2_000)


def opened(**changes: Any) -> tuple[OffsetTracker, Cursor]:
    tracker = OffsetTracker(Committable(100, ""))
    cursor = tracker.cursors["dst_1"] = Cursor(replace(OPENED, **changes), tracker)
    return tracker, cursor


def begin(cursor: Cursor, *offsets: int) -> list[PendingRecord]:
    begun = [cursor.begin(offset, 1, offset) for offset in offsets]
    return [pending for pending in begun if pending is not None]


def test_a_cursor_that_opens_again_still_reads_what_it_had_not_read() -> None:
    _, cursor = opened(next=20, to=40)
    cursor.reopen(60)
    assert [offset for offset in range(100) if cursor.owns(offset)] == [*range(10, 40), *range(60, 100)]
    assert [pending.offset for pending in begin(cursor, *range(20, 100))] == [*range(20, 40), *range(60, 100)]


def test_a_cursor_that_opens_again_forgets_old_parts_that_it_has_read() -> None:
    _, cursor = opened(next=40, to=40)
    for live_next in range(50, 100, 10):
        cursor.reopen(live_next)
        cursor.pass_to(live_next + 5, 0)
        assert cursor.hand_over(live_next + 5)
    assert (cursor.since, len(cursor.live)) == (50, 4)
    assert not cursor.owns(45)
    assert not cursor.owns(57)
    assert cursor.owns(64)


def test_the_live_reader_does_not_begin_again_a_delivery_that_an_earlier_owner_left_to_the_cursor() -> None:
    _, cursor = opened(since=110, next=110, to=110, open=(104, 106))
    for pending in begin(cursor, 104, 106):
        pending.settle()
    assert [offset for offset in range(100, 120) if cursor.owns(offset)] == [104, 106]
    assert begin(cursor, 104, 106) == [], "the catch-up reader does not either"
    assert cursor.has_read(106)


def test_records_that_take_the_offsets_of_lost_ones_are_not_the_cursors() -> None:
    tracker, cursor = opened(since=110, next=110, to=110, open=(104, 106))
    for pending in begin(cursor, 104, 106):
        pending.settle()
    new = cursor.below(105, tracker)
    assert [offset for offset in range(100, 120) if new.owns(offset)] == [104]


def test_a_cursor_that_has_not_ended_before_the_live_reader_opens_without_a_gap() -> None:
    _, cursor = opened(next=40, to=40)
    cursor.pass_to(55, 0)
    cursor.reopen(30)
    assert (cursor.to, cursor.live, cursor.position) == (None, [], 40)


def test_records_that_kafka_has_lost_are_read_again_from_their_new_log() -> None:
    tracker, cursor = opened(open=(4, 8))
    first, second, third = begin(cursor, 4, 12, 15)
    cursor.pass_to(30, 0)
    new = cursor.below(14, tracker)
    assert [first.owner, second.owner, third.owner] == [new, new, cursor]
    assert (first.is_for_next_owner, third.can_be_put_back) == (False, False)
    assert (new.held, cursor.held) == (2, 1)
    assert [pending.offset for pending in begin(new, 8, 12, 14, 15)] == [8, 14, 15]
    third.settle()
    first.settle()
    assert (new.held, cursor.held) == (4, 0)
    tracker.revoke()
    assert second.is_for_next_owner


def test_a_copy_of_a_record_that_kafka_has_lost_is_never_left_to_the_next_owner() -> None:
    tracker, cursor = opened()
    (pending,) = begin(cursor, 12)
    cursor.below(11, tracker)
    tracker.revoke()
    assert (pending.is_revoked, pending.is_for_next_owner, pending.has_next_owner) == (True, False, False)


def test_the_loss_of_the_end_of_a_log_is_counted() -> None:
    _, cursor = opened(open=(4, 8), next=20)
    begin(cursor, 4)
    assert cursor.lost_from(0, 30) == LostEvents(5, 30, 1), "one is in memory, and the unread ones are not counted"
    assert cursor.lost_from(9, 30) == LostEvents(9, 30, 0)
    assert cursor.lost_from(25, 30) == LostEvents(25, 30, 0)
    assert cursor.lost_from(30, 30) is None
    assert opened(open=(4, 8), next=20, to=20)[1].lost_from(5, 30) == LostEvents(5, 20, 1)
    _, again = opened(next=12, to=None, live=((14, 40),))
    assert (again.lost_from(13, 40), again.lost_from(14, 40)) == (LostEvents(13, 40, 0), None)


def test_a_closed_cursor_ends_where_the_live_reader_is() -> None:
    _, cursor = opened(next=20)
    cursor.close(30)
    assert (cursor.to, cursor.is_behind) == (30, True)
    cursor.close(99)
    assert cursor.to == 30
    cursor.pass_to(30, 0)
    assert (cursor.is_done(29), cursor.is_done(30)) == (False, True)


def test_open_offsets_that_were_not_found_are_given_up() -> None:
    _, cursor = opened(open=(3, 5), next=20)
    begin(cursor, 3)
    cursor.pass_to(20, 0)
    assert (cursor.give_up_missing(), cursor.give_up_missing(), cursor.waiting) == (1, 0, 1)
    assert opened(open=(3, 5))[1].trim(4) == 1


def test_the_record_time_for_a_translated_commit_is_of_no_later_event() -> None:
    _, cursor = opened(next=20, to=40)
    assert cursor.oldest_ms == 1_000
    cursor.adopt(PendingRecord(OffsetTracker(), 50, 1, 2, 9_000))
    assert cursor.oldest_ms == 1_000, "the unread events before it are older"
    begin(cursor, 21)
    assert cursor.oldest_ms == 21


def test_a_cursor_of_few_deliveries_reads_nothing_else() -> None:
    tracker, cursor = opened(to=10)
    late, later = (cursor.adopt(PendingRecord(tracker, offset, 1, 1, 1_000 * offset)) for offset in (50, 70))
    assert (cursor.is_behind, cursor.unread(100), cursor.waiting) == (False, 0, 2)
    assert [offset for offset in range(100) if cursor.owns(offset)] == [50, 70]
    assert (cursor.oldest_ms, cursor.lowest, cursor.position) == (50_000, 50, 71)
    cursor.put_back(later)
    assert (cursor.is_behind, cursor.position) == (True, 70)
    [again] = begin(cursor, *range(70, 80))
    resumed = Cursor(cursor.state(), tracker)
    assert (resumed.is_behind, resumed.position, resumed.lowest) == (True, 50, 50)
    assert [pending.offset for pending in begin(resumed, *range(50, 90))] == [50, 70]
    assert (resumed.is_behind, resumed.oldest_ms) == (False, 50_000)
    late.settle()
    assert (cursor.oldest_ms, cursor.lowest) == (70_000, 70)
    again.settle()
    assert (cursor.is_done(9), cursor.is_done(10)) == (False, True)


def test_a_cursor_of_few_deliveries_outlives_a_cut_above_them() -> None:
    tracker, cursor = opened(to=10)
    low, high = (cursor.adopt(PendingRecord(tracker, offset, 1, 1, 1)) for offset in (50, 70))
    new = cursor.below(60, tracker)
    assert (low.owner, high.owner, new.is_behind, new.position) == (new, cursor, False, 60)


def test_only_the_customer_of_a_cursor_is_served() -> None:
    assert [opened(owner=owner)[1].serves("a") for owner in ("", "a", "b")] == [True, True, False]


def test_the_delivery_of_one_destination_leaves_those_of_others_with_the_tracker() -> None:
    tracker, cursor = opened()
    shared = tracker.track(100, 1, 2)
    assert shared is not None
    shared.is_dead_lettered = True
    own = cursor.adopt(shared)
    assert (shared.is_open, own.is_dead_lettered) == (True, True)
    assert (tracker.committable() or Committable(0, "")).offset == 100
    shared.settle()
    committed = tracker.committable() or Committable(0, "")
    assert (committed.offset, [state.covers(100) for state in cursors_of(committed)]) == (101, [True])
    own.settle()
    assert (cursor.held, cursor.held_bytes) == (0, 0)


def test_a_cursor_reads_from_its_next_offset_to_its_end() -> None:
    ended = CursorState(destination_id="dst_1", since=10, next=12, to=14, oldest_ms=1, opened_ms=1, open=(11,))
    assert [offset for offset in range(20) if ended.reads(offset)] == [12, 13]
    assert OPENED.reads(10**9)


def test_the_size_of_a_backlog_is_known_at_most() -> None:
    tracker = OffsetTracker()
    cursor = Cursor(OPENED, tracker)
    assert (cursor.waiting, cursor.unread(10), cursor.unread(25)) == (0, 0, 15)
    assert cursor.begin(11, 1, 1_000) is not None
    assert (cursor.waiting, cursor.unread(25)) == (1, 13)
    cursor.pass_to(20, 1_000)
    assert cursor.hand_over(20)
    assert (cursor.waiting, cursor.unread(25)) == (1, 0), "the live reader has the rest"


class Reading(RuleBasedStateMachine):
    """One destination's events in one partition, a live reader, a catch-up reader and restarts.

    The model knows of every offset whether it was delivered. No offset may be delivered by two owners at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.committed = Committable(0, "")
        self.log: list[bool] = []
        """Of each offset whether its event is the destination's."""
        self.settled = set[int]()
        self.repeated = set[int]()
        """Offsets that may come again: they were settled after the last commit before a restart."""
        self.begin_assignment()

    def begin_assignment(self) -> None:
        self.tracker = OffsetTracker(self.committed, TOPIC, cursors_of(self.committed))
        self.live_next = self.committed.offset
        self.memory: dict[int, PendingRecord] = {}
        self.in_call: dict[int, PendingRecord] = {}

    @property
    def cursor(self) -> Cursor | None:
        return self.tracker.cursors.get("dst_1")

    @rule(own=st.booleans())
    def produce(self, own: bool) -> None:  # noqa: FBT001
        self.log.append(own)

    @precondition(lambda self: self.live_next < len(self.log))
    @rule()
    def read_live(self) -> None:
        offset = self.live_next
        self.live_next += 1
        if not self.log[offset] or (self.cursor is not None and self.cursor.owns(offset)):
            self.tracker.pass_over(offset + 1)
        elif (pending := self.tracker.track(offset, 1, 1, at_ms=offset)) is not None:
            self.remember(offset, pending)

    def remember(self, offset: int, pending: PendingRecord) -> None:
        assert offset not in self.memory
        assert offset not in self.in_call
        assert offset not in self.settled or offset in self.repeated
        self.memory[offset] = pending

    @precondition(lambda self: self.memory and self.tracker.next_offset is not None)
    @rule(kept=st.integers(0, 5), reopens=st.booleans(), few=st.booleans())
    def fall_behind(self, kept: int, reopens: bool, few: bool) -> None:  # noqa: FBT001
        live_next = self.tracker.next_offset
        assert live_next is not None
        if self.cursor is None:
            new = replace(OPENED, since=live_next, next=live_next, to=live_next if few else None)
            self.tracker.cursors["dst_1"] = Cursor(new, self.tracker)
        elif reopens:
            self.cursor.reopen(live_next)
        cursor = self.cursor
        assert cursor is not None
        for number, (offset, pending) in enumerate(sorted(self.memory.items())):
            self.memory[offset] = cursor.adopt(pending)
            if number >= kept:
                cursor.put_back(self.memory.pop(offset))

    @precondition(lambda self: self.cursor is not None and self.cursor.is_behind)
    @rule(records=st.integers(1, 4), room=st.integers(0, 3))
    def catch_up(self, records: int, room: int) -> None:
        cursor = self.cursor
        assert cursor is not None
        end = min(len(self.log), cursor.position + records)
        for offset in range(cursor.position, end):
            if self.log[offset] and len(self.memory) >= room:
                cursor.pass_to(offset, offset)
                break
            if self.log[offset] and (pending := cursor.begin(offset, 1, offset)) is not None:
                self.remember(offset, pending)
        else:
            cursor.pass_to(end, end)
        cursor.hand_over(self.live_next)

    @precondition(lambda self: self.memory)
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.memory)))
        self.in_call[offset] = self.memory.pop(offset)

    @precondition(lambda self: self.in_call)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.in_call)))
        self.in_call.pop(offset).settle()
        self.settled.add(offset)

    @rule()
    def commit(self) -> None:
        found = self.tracker.committable()
        if found is not None:
            self.committed = found
            self.settled_at_commit = set(self.settled)
            done = [c for c in self.tracker.cursors.values() if c.is_done(found.offset)]
            for cursor in done:
                del self.tracker.cursors[cursor.destination_id]

    @rule()
    def restart(self) -> None:
        self.repeated |= self.settled
        self.begin_assignment()

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each offset of the destination is settled, in memory, or still to be read by exactly one reader."""
        for offset, own in enumerate(self.log):
            if not own or offset in self.settled or offset in self.memory or offset in self.in_call:
                continue
            cursor = self.cursor
            by_live = offset >= self.live_next and not (cursor is not None and cursor.owns(offset))
            by_cursor = cursor is not None and cursor.is_behind and cursor.owns(offset) and offset >= cursor.position
            assert by_live or by_cursor, (offset, self.live_next, cursor and cursor.state())

    @invariant()
    def the_commit_covers_what_it_passes(self) -> None:
        """Under the last commit, each unsettled offset is the live reader's or a cursor's."""
        named = {state.destination_id: state for state in cursors_of(self.committed)}.get("dst_1")
        tracker = OffsetTracker(self.committed, TOPIC, [named] if named else [])
        cursor = tracker.cursors.get("dst_1")
        for offset, own in enumerate(self.log):
            if own and offset not in self.settled:
                is_owned = cursor is not None and cursor.owns(offset)
                assert is_owned or offset >= self.committed.offset
                assert cursor is None or not is_owned or (cursor.is_behind and offset >= cursor.position)


Reading.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestReading = Reading.TestCase
