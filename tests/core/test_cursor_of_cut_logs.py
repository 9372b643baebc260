"""Cursors and logs that lose their end: an unclean election, after which other records take the offsets.

Events that Kafka has lost owe nothing. Each event of the present log is delivered, if need be more than once.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pushrail_stream.core.commit import Committable, cursors_of
from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import CursorState, entry_of
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from tests.support.samples import TOPIC

Record = tuple[bool, int]
"""Whether the event is the destination's, and its leader epoch."""


class CutLogs(RuleBasedStateMachine):
    """One destination in one partition, as in `tests.core.test_cursor`, and a log that loses its end."""

    def __init__(self) -> None:
        super().__init__()
        self.committed = Committable(0, "")
        self.log: list[Record] = []
        self.epoch = 0
        self.settled = set[tuple[int, int]]()
        """Offset and epoch of each record that was delivered."""
        self.cut_at: int | None = None
        """The lowest end of the log since the last commit."""
        self.begin_assignment()

    def begin_assignment(self) -> None:
        self.tracker = OffsetTracker(self.committed, TOPIC, cursors_of(self.committed))
        self.olds = list[OffsetTracker]()
        self.live_next = self.committed.offset
        self.memory: dict[PendingRecord, int] = {}
        """The deliveries that wait or are in a call, with the epochs of their records."""
        if self.cut_at is not None and self.live_next > self.cut_at:
            self.go_back(self.cut_at)

    def go_back(self, end: int) -> None:
        new = OffsetTracker(topic=TOPIC)
        self.tracker.replace(end, new)
        self.olds.append(self.tracker)
        self.tracker, self.live_next = new, end

    @property
    def cursor(self) -> Cursor | None:
        return self.tracker.cursors.get("dst_1")

    @rule(own=st.lists(st.booleans(), min_size=1, max_size=4))
    def produce(self, own: list[bool]) -> None:
        self.log += [(one, self.epoch) for one in own]

    @precondition(lambda self: self.log)
    @rule(lost=st.integers(1, 5), new=st.lists(st.booleans(), max_size=6))
    def lose_end(self, lost: int, new: list[bool]) -> None:
        end = max(0, len(self.log) - lost)
        self.epoch += 1
        self.log[end:] = [(one, self.epoch) for one in new]
        self.cut_at = end if self.cut_at is None else min(self.cut_at, end)
        if self.live_next > end:
            self.go_back(end)

    @precondition(lambda self: self.live_next < len(self.log))
    @rule(records=st.integers(1, 4))
    def read_live(self, records: int) -> None:
        for offset in range(self.live_next, min(len(self.log), self.live_next + records)):
            own, epoch = self.log[offset]
            self.tracker.meet_epoch(epoch, offset)
            self.live_next = self.tracker.read_to = offset + 1
            if own and self.cursor is not None and self.cursor.owns(offset):
                self.tracker.skip(offset)
            elif (pending := self.tracker.track(offset, 1, 1, at_ms=offset)) is not None:
                if own:
                    self.memory[pending] = epoch
                else:
                    pending.settle()

    @precondition(lambda self: any(pending.owner is self.tracker for pending in self.memory))
    @rule(kept=st.integers(0, 5))
    def fall_behind(self, kept: int) -> None:
        live_next = self.tracker.read_to
        if self.cursor is None:
            opened = CursorState(destination_id="dst_1", since=live_next, next=live_next, oldest_ms=0, opened_ms=0)
            self.tracker.cursors["dst_1"] = Cursor(opened, self.tracker)
        cursor = self.cursor
        assert cursor is not None
        cursor.reopen(live_next)
        for pending in [pending for pending in self.memory if pending.owner is self.tracker]:
            self.memory[cursor.adopt(pending)] = self.memory.pop(pending)
        waiting = sorted((one for one in self.memory if one.owner is cursor), key=lambda one: one.offset)
        for pending in waiting[kept:]:
            cursor.put_back(pending)
            del self.memory[pending]

    @precondition(lambda self: self.cursor is not None and self.cursor.is_behind)
    @rule(records=st.integers(1, 6), room=st.integers(1, 4))
    def catch_up(self, records: int, room: int) -> None:
        cursor = self.cursor
        assert cursor is not None
        limit = max(self.tracker.read_to, cursor.next) if cursor.to is None else max(cursor.to, cursor.reread_to)
        end = min(len(self.log), limit, cursor.position + records)
        for offset in range(cursor.position, end):
            own, epoch = self.log[offset]
            if own and len(self.memory) >= room:
                cursor.pass_to(offset, offset)
                break
            if own and (pending := cursor.begin(offset, 1, offset)) is not None:
                self.memory[pending] = epoch
        else:
            cursor.pass_to(end, 0)
        cursor.give_up_missing()
        cursor.hand_over(self.tracker.read_to)

    @precondition(lambda self: self.memory)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        pending = data.draw(st.sampled_from(sorted(self.memory, key=lambda one: (one.offset, self.memory[one]))))
        self.settled.add((pending.offset, self.memory.pop(pending)))
        pending.settle()

    @rule()
    def commit(self) -> None:
        found = self.tracker.committable()
        if found is not None and not any(old.holds_back for old in self.olds):
            self.committed, self.cut_at = found, None
            for cursor in [one for one in self.tracker.cursors.values() if one.is_done(found.offset)]:
                del self.tracker.cursors[cursor.destination_id]

    @rule()
    def restart(self) -> None:
        self.begin_assignment()

    def lost(self, cursor: Cursor | None, live_next: int, epoch: int | None) -> list[int]:
        """The offsets of the destination that nobody will deliver."""
        held = {(pending.offset, its) for pending, its in self.memory.items()}
        meets = [offset for offset, (_, its) in enumerate(self.log) if offset >= live_next and its > (epoch or 0)]
        read_again_from = min(meets, default=len(self.log)) if epoch is not None else len(self.log)
        lost = []
        for offset, (own, its) in enumerate(self.log[:read_again_from]):
            if not own or (offset, its) in self.settled or (offset, its) in held:
                continue
            owns = cursor is not None and cursor.owns(offset)
            by_live = offset >= live_next and not owns
            by_cursor = cursor is not None and owns and cursor.is_behind and offset >= cursor.position
            if not by_live and not by_cursor:
                lost.append(offset)
        return lost

    @invariant()
    def the_state_for_a_commit_is_new(self) -> None:
        if self.cursor is not None:
            assert self.cursor.entry() == entry_of(self.cursor.state())

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.lost(self.cursor, self.live_next, self.tracker.epoch) == [], self.cursor and self.cursor.state()

    @invariant()
    def nothing_is_lost_by_a_crash(self) -> None:
        now = self.tracker, self.olds, self.live_next, self.memory
        self.begin_assignment()
        assert self.lost(self.cursor, self.live_next, self.tracker.epoch) == [], self.committed
        self.tracker, self.olds, self.live_next, self.memory = now


CutLogs.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestCutLogs = CutLogs.TestCase


def test_a_log_without_its_end_is_read_again() -> None:
    tracker = OffsetTracker(Committable(10, ""), TOPIC)
    tracker.meet_epoch(1, 10)
    state = CursorState(destination_id="dst_1", since=0, next=30, oldest_ms=0, opened_ms=0, open=(5, 25))
    tracker.cursors["dst_1"] = Cursor(state, tracker)
    tracker.meet_epoch(2, 20)
    assert tracker.cursors["dst_1"].state() == CursorState(
        destination_id="dst_1", since=0, next=20, oldest_ms=0, opened_ms=0, open=(5,)
    )


def test_replaced_cursors_without_deliveries_are_forgotten() -> None:
    state = CursorState(destination_id="dst_1", since=0, next=0, oldest_ms=1, opened_ms=1)
    tracker = OffsetTracker(cursors=[state])
    for epoch in range(1, 10):
        tracker.meet_epoch(epoch, 10)
        tracker.cursors["dst_1"].pass_to(20, 0)
    assert len(tracker.replaced_cursors) == 1
    assert not tracker.has_open
