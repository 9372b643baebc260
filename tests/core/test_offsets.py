"""Offsets: only settled records are committed, and a restart forgets no settled offset."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pushrail_stream.core.commit import (
    MAX_METADATA_CHARS,
    Committable,
    SettledMap,
    decode_settled,
    encode_metadata,
    settled_map,
    topic_of,
    was_recreated,
)
from pushrail_stream.core.offsets import MAX_AHEAD, OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import TopicIdentity
from tests.support.samples import MIRROR, RECREATED, TOPIC

gaps = st.sampled_from([0, 0, 0, 0, 1, 2, 9])


class Tracking(RuleBasedStateMachine):
    """A partition with its log, read by one owner after the other; the model keeps plain sets."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        """Offsets that exist: compaction and transactions leave gaps."""
        self.topic: TopicIdentity | None = None
        self.committed: Committable | None = None
        self.known_at_commit = frozenset[int]()
        self.mapped_at = -1
        self.mapped = frozenset[int]()
        """The head that the commit's metadata was written for, and the offsets that were settled then."""
        self.old_tickets: list[PendingRecord] = []
        self.assign(0, frozenset())

    def assign(self, position: int, known: frozenset[int]) -> None:
        self.tracker = OffsetTracker(self.committed, self.topic)
        self.position = position
        self.known = set(known)
        """The offsets that this owner knows to be settled, by the commit or by itself."""
        self.seen: list[int] = []
        self.open: dict[int, tuple[PendingRecord, int, int]] = {}
        """Ticket, unsettled deliveries, bytes."""
        self.closed: PendingRecord | None = None
        self.highest = -1 if self.committed is None else self.committed.offset

    @initialize(first=st.integers(0, 2**40), committed=st.booleans(), tells_ids=st.booleans())
    def begin_somewhere(self, first: int, committed: bool, tells_ids: bool) -> None:  # noqa: FBT001
        self.topic = TOPIC if tells_ids else None
        self.committed = Committable(first, "") if committed else None
        self.assign(first, frozenset())

    @rule(
        records=st.lists(st.tuples(gaps, st.integers(0, 1000), st.sampled_from([1, 1, 2, 3])), min_size=3, max_size=8),
        picks=st.lists(st.integers(0, 99), min_size=3, max_size=8),
    )
    def work(self, records: list[tuple[int, int, int]], picks: list[int]) -> None:
        self.read(records)
        self.settle(picks)

    def read(self, records: list[tuple[int, int, int]]) -> None:
        for gap, size, deliveries in records:
            later = [offset for offset in self.log if offset >= self.position]
            offset = later[0] if later else max([self.position, *(last + 1 for last in self.log[-1:])]) + gap
            if not later:
                self.log.append(offset)
            pending = self.tracker.track(offset, size, deliveries)
            self.seen.append(offset)
            self.position = offset + 1
            if offset in self.known:
                assert pending is None, "what an earlier owner settled was begun again"
            else:
                assert pending is not None, "an open record was skipped"
                assert pending.offset == offset
                self.open[offset] = (pending, deliveries, size)

    @rule(picks=st.lists(st.integers(0, 99), min_size=3, max_size=12))
    def settle(self, picks: list[int]) -> None:
        for pick in picks[: len(self.open)]:
            offset = sorted(self.open)[pick % len(self.open)]
            pending, left, size = self.open.pop(offset)
            pending.settle()
            assert pending.is_open == (left > 1)
            if left > 1:
                self.open[offset] = (pending, left - 1, size)
            else:
                self.known.add(offset)
                self.closed = pending

    @rule()
    def commit(self) -> None:
        released = self.tracker.committable()
        if released is not None:
            self.committed, self.known_at_commit = released, frozenset(self.known)
            self.mapped_at, self.mapped = released.offset, self.known_at_commit

    @rule(commits=st.sampled_from([True, True, False]), compacted=st.sets(st.integers(0, 30), max_size=3))
    def restart(self, commits: bool, compacted: set[int]) -> None:  # noqa: FBT001
        """From the last commit, or crashed since; in between, compaction has removed some records."""
        if commits:
            self.commit()
        if self.committed is not None:
            start = self.committed.offset
            unread = [offset for offset in self.log[:-1] if offset >= start]
            self.log = [o for o in self.log if o not in {unread[i] for i in compacted if i < len(unread)}]
            self.old_tickets = [pending for pending, _, _ in self.open.values()]
            self.assign(start, self.known_at_commit)

    @precondition(lambda self: self.old_tickets)
    @rule()
    def work_for_the_last_owner_ends_late(self) -> None:
        for pending in self.old_tickets:
            pending.settle()
        self.old_tickets = []

    @precondition(lambda self: self.committed is not None and any(o < self.committed.offset for o in self.log))
    @rule(back=st.integers(0, 99))
    def an_operator_moves_the_group_back(self, back: int) -> None:
        assert self.committed is not None
        below = [offset for offset in self.log if offset < self.committed.offset]
        self.assign(below[-1 - back % len(below)], frozenset())  # all of it is wanted again
        self.highest = -1
        self.read([(0, 10, 1)])

    @precondition(lambda self: self.committed is not None and len(self.log) > 1)
    @rule(pick=st.integers(0, 99))
    def a_tool_moves_the_offset_and_keeps_the_metadata(self, pick: int) -> None:
        assert self.committed is not None
        moved = self.log[pick % len(self.log)]
        self.committed = Committable(moved, self.committed.metadata)
        self.known_at_commit = self.mapped if moved == self.mapped_at else frozenset()
        self.assign(moved, self.known_at_commit)

    @precondition(lambda self: self.topic is not None and self.committed is not None)
    @rule()
    def the_topic_is_mirrored_to_another_cluster(self) -> None:
        """With offset and metadata, where the offset may be the same: it counts, and nothing else does."""
        assert self.committed is not None
        assert self.topic is not None
        self.topic = TopicIdentity(f"{self.topic.cluster_id}+", f"{self.topic.topic_id}+")
        assert not was_recreated(topic_of(self.committed), self.topic)
        self.known_at_commit = self.mapped = frozenset()
        self.assign(self.committed.offset, frozenset())

    @precondition(lambda self: self.topic is not None and self.committed is not None)
    @rule(first=st.integers(0, 2**40))
    def the_topic_is_created_again(self, first: int) -> None:
        assert self.topic is not None
        assert self.committed is not None
        new = self.topic._replace(topic_id=f"{self.topic.topic_id}'")
        names_it = topic_of(self.committed) == self.topic
        assert was_recreated(topic_of(self.committed), new) == names_it
        if names_it:
            assert settled_map(new, self.committed).offsets == []
            self.topic, self.log, self.committed = new, [], None
            self.assign(first, frozenset())

    @invariant()
    def an_illegal_step_raises(self) -> None:
        """And changes nothing, or the invariants below fail."""
        if self.closed is not None:
            with pytest.raises(RuntimeError, match="settled more often"):
                self.closed.settle()
        for offset in {*self.seen[:1], *self.seen[-1:]}:
            with pytest.raises(RuntimeError, match=f"offset {offset} came when {self.seen[-1] + 1} was next"):
                self.tracker.track(offset, 5, 1)
        with pytest.raises(ValueError, match="at least one delivery"):
            self.tracker.track(self.position, 5, 0)

    @invariant()
    def the_first_open_record_is_where_to_resume(self) -> None:
        released = self.tracker.committable()
        if self.open:
            head: int | None = min(self.open)
        elif self.seen:
            head = self.seen[-1] + 1
        else:
            head = None if self.committed is None else self.committed.offset
        assert (None if released is None else released.offset) == head
        if head is not None:
            assert head >= self.highest
            self.highest = head

    @invariant()
    def the_map_tells_what_is_settled_above_and_nothing_else(self) -> None:
        released = self.tracker.committable()
        if released is not None:
            assert topic_of(released) == self.topic
            told = set(settled_map(self.topic, released).offsets)
            assert told <= self.known
            assert told & set(self.log) == {o for o in self.known if o >= released.offset} & set(self.log)

    @invariant()
    def what_is_open_is_counted(self) -> None:
        assert self.tracker.open_records == len(self.open)
        assert self.tracker.open_bytes == sum(size for _, _, size in self.open.values())
        head = min(self.open, default=2**63)
        assert self.tracker.span == sum(offset >= head for offset in self.seen)


TestTracking = Tracking.TestCase
TestTracking.settings = settings(max_examples=60, stateful_step_count=30)


def begin(tracker: OffsetTracker, offset: int, size: int = 1, deliveries: int = 1) -> PendingRecord:
    pending = tracker.track(offset, size, deliveries)
    assert pending is not None
    return pending


def test_a_new_tracker_commits_nothing() -> None:
    assert OffsetTracker().committable() is None


def test_a_commit_is_made_anew_only_when_it_has_moved() -> None:
    tracker = OffsetTracker(Committable(4, ""), TOPIC)
    first, pending = tracker.committable(), [tracker.track(4 + number, 10, 1) for number in range(2)]
    assert tracker.committable() is first is not None
    for settled in reversed(pending):
        before = tracker.committable()
        assert settled is not None
        settled.settle()
        assert tracker.committable() != before
    tracker.topic = RECREATED
    assert [topic_of(commit) for commit in (first, tracker.committable()) if commit] == [TOPIC, RECREATED]


def test_unmet_settled_offsets_are_passed_on() -> None:
    # A worker that restarts twice in a row must not forget the offsets that the first one had settled.
    first = OffsetTracker()
    pending_records = [begin(first, offset) for offset in range(5, 10)]
    pending_records[2].settle()
    pending_records[4].settle()
    committed = first.committable()
    assert committed is not None

    second = OffsetTracker(committed)
    assert second.committable() == committed
    begin(second, 5)
    assert second.committable() == committed


def test_a_new_owner_begins_only_open_records() -> None:
    first = OffsetTracker()
    pending_records = [begin(first, offset) for offset in range(5, 12)]
    for index in (1, 2, 4, 5):
        pending_records[index].settle()

    second = OffsetTracker(first.committable())
    begun = [second.track(offset, 1, 1) for offset in (5, 6, 8, 9, 11)]  # compaction has removed 7 and 10
    assert [pending.offset for pending in begun if pending is not None] == [5, 8, 11]
    for pending in begun:
        if pending is not None:
            pending.settle()
    assert second.committable() == Committable(12, "")


def test_settled_records_are_passed_over() -> None:
    first = OffsetTracker()
    pending_records = [begin(first, offset) for offset in range(5, 9)]
    pending_records[1].settle()
    pending_records[2].settle()

    second = OffsetTracker(first.committable())
    begin(second, 5).settle()
    committed = second.committable()
    assert committed is not None
    assert committed.offset == 6
    assert OffsetTracker(committed).track(6, 1, 1) is None
    assert [second.track(offset, 1, 1) for offset in (6, 7)] == [None, None]
    assert (second.committable(), second.span) == (Committable(8, ""), 0)


def test_a_group_moved_back_reads_again() -> None:
    first = OffsetTracker()
    pending_records = [begin(first, offset) for offset in range(5, 10)]
    pending_records[2].settle()

    second = OffsetTracker(first.committable())
    assert [begin(second, offset).offset for offset in range(3, 10)] == list(range(3, 10))


def test_records_of_a_later_leader_epoch_took_the_offsets_of_lost_ones() -> None:
    """An unclean election cut the log off at 8, and other records were written there since."""
    first = OffsetTracker()
    first.meet_epoch(3, 5)
    pending_records = [begin(first, offset) for offset in range(5, 12)]
    for index in (1, 2, 4, 5):
        pending_records[index].settle()

    second = OffsetTracker(first.committable())
    second.meet_epoch(2, 5)
    begun = [second.track(offset, 1, 1) for offset in (5, 6, 7)]
    second.meet_epoch(4, 8)
    begun += [second.track(offset, 1, 1) for offset in (8, 9, 10, 11)]
    assert [pending.offset for pending in begun if pending is not None] == [5, 8, 9, 10, 11]
    committed = second.committable()
    assert committed is not None
    assert settled_map(None, committed) == SettledMap([6, 7], 4)


def test_an_unknown_leader_epoch_changes_nothing() -> None:
    """A broker may not tell it, and the commits of earlier versions do not name it."""
    settled = Committable(5, encode_metadata(5, [6, 7]))
    tracker = OffsetTracker(settled)
    tracker.meet_epoch(None, 5)
    tracker.meet_epoch(3, 5)
    begin(tracker, 5)
    assert (tracker.track(6, 1, 1), tracker.track(7, 1, 1)) == (None, None)


def test_a_gap_before_a_new_leaders_record_is_doubted_once() -> None:
    tracker = OffsetTracker()
    tracker.meet_epoch(4, 0)
    tracker.read_to = 10
    assert tracker.doubts(20, 5)
    assert not tracker.doubts(20, 5), "a gap that comes twice is the log's"
    assert tracker.doubts(20, 6), "the log has lost its end again"


def test_the_next_record_is_doubted_when_leaders_without_records_were_elected() -> None:
    """The log may have been cut off twice, the second time just there."""
    tracker = OffsetTracker()
    tracker.meet_epoch(4, 0)
    tracker.read_to = 10
    assert not tracker.doubts(10, 5)
    assert tracker.doubts(10, 6)
    assert not tracker.doubts(10, 6)


def test_a_new_leaders_record_below_the_last_one_is_doubted_once() -> None:
    tracker = OffsetTracker()
    tracker.meet_epoch(4, 0)
    tracker.read_to = 10
    assert tracker.doubts(8, 6)
    assert tracker.doubts(5, 5), "the log was cut there before"
    assert not tracker.doubts(5, 5)


@pytest.mark.parametrize(
    ("known", "offset", "epoch"), [(4, 10, 5), (4, 20, 4), (4, 5, 3), (None, 20, 5), (4, 20, None)], ids=str
)
def test_other_gaps_are_the_logs(known: int | None, offset: int, epoch: int | None) -> None:
    tracker = OffsetTracker()
    tracker.meet_epoch(known, 0)
    tracker.read_to = 10
    assert not tracker.doubts(offset, epoch)


def test_settling_too_often_raises() -> None:
    tracker = OffsetTracker()
    begin(tracker, 4)
    pending = begin(tracker, 5, size=10)
    pending.settle()
    with pytest.raises(RuntimeError, match="offset 5 settled more often than it has deliveries"):
        pending.settle()
    assert (tracker.open_records, tracker.open_bytes) == (1, 1)


def test_an_offset_out_of_order_raises() -> None:
    tracker = OffsetTracker()
    begin(tracker, 5)
    before = tracker.committable()
    for offset in (5, 4):
        with pytest.raises(RuntimeError, match=f"offset {offset} came when 6 was next"):
            tracker.track(offset, 1, 1)
    assert (tracker.committable(), tracker.span, tracker.open_records) == (before, 1, 1)


def test_a_record_without_deliveries_is_done() -> None:
    tracker = OffsetTracker()
    with pytest.raises(ValueError, match="at least one delivery"):
        tracker.track(5, 10, 0)
    assert tracker.committable() is None
    assert begin(tracker, 5).is_open


def test_a_revoked_partition_marks_its_records() -> None:
    tracker = OffsetTracker()
    pending = begin(tracker, 5)
    assert not pending.is_revoked
    tracker.revoke()
    assert pending.is_revoked
    pending.settle()
    assert tracker.committable() == Committable(6, "")


@pytest.mark.parametrize("then", [None, TOPIC, RECREATED, MIRROR])
@pytest.mark.parametrize("now", [None, TOPIC, RECREATED, MIRROR])
def test_the_map_counts_for_its_own_topic_alone(then: TopicIdentity | None, now: TopicIdentity | None) -> None:
    committed = Committable(5, encode_metadata(5, [7], then))
    assert settled_map(now, committed).offsets == ([7] if then == now else [])
    tracker = OffsetTracker(committed, now)
    assert begin(tracker, 6).is_open
    assert (tracker.track(7, 1, 1) is None) == (then == now)


def test_an_unknown_topic_keeps_the_commits_topic() -> None:
    tracker = OffsetTracker(Committable(5, encode_metadata(5, [7], TOPIC)))
    begin(tracker, 5).settle()
    released = tracker.committable()
    assert released is not None
    assert (released.offset, topic_of(released)) == (6, TOPIC)
    assert OffsetTracker().topic is None


def test_bad_metadata_begins_everything() -> None:
    tracker = OffsetTracker(Committable(5, "ps3:5::damaged::"))
    assert begin(tracker, 5).is_open
    assert begin(tracker, 6).is_open


@pytest.mark.parametrize(
    ("deliveries", "is_lost", "left_open"), [(1, False, True), (2, False, False), (1, True, True), (2, True, True)]
)
def test_records_for_the_next_owner(deliveries: int, *, is_lost: bool, left_open: bool) -> None:
    tracker = OffsetTracker()
    pending = tracker.track(0, 1, deliveries)
    assert pending is not None
    assert (pending.is_revoked, pending.is_for_next_owner) == (False, False)
    tracker.revoke(is_lost=is_lost)
    assert pending.is_revoked
    assert pending.is_for_next_owner is left_open


def test_passed_offsets_are_committed() -> None:
    tracker = OffsetTracker(Committable(5, ""))
    tracker.pass_over(5)
    assert tracker.committable() == Committable(5, "")
    begin(tracker, 5).settle()
    tracker.pass_over(7)  # a transaction's marker
    assert (tracker.committable(), tracker.next_offset) == (Committable(7, ""), 7)
    pending = begin(tracker, 8)
    tracker.pass_over(20)
    assert tracker.committable() == Committable(8, ""), "an open record is not passed"
    tracker.pass_over(3)
    pending.settle()
    assert tracker.committable() == Committable(20, "")
    empty = OffsetTracker()
    empty.pass_over(4)
    assert empty.committable() == Committable(4, "")


def test_records_that_cannot_be_read_have_no_known_leader_epoch() -> None:
    """They may be of a later epoch than the one before: a client would go back to where that one ended."""
    tracker = OffsetTracker(Committable(5, encode_metadata(5, [20], TOPIC, 3)), TOPIC)
    begin(tracker, 5).settle()
    tracker.step_over(12)
    assert tracker.committable() == Committable(12, encode_metadata(12, [], TOPIC))
    assert not tracker.doubts(13, 4), "a marker may stand at 12"
    tracker.meet_epoch(4, 13)
    begin(tracker, 13).settle()
    assert tracker.committable() == Committable(14, encode_metadata(14, [], TOPIC, 4))


def test_passed_offsets_leave_the_map() -> None:
    first = OffsetTracker()
    pending_records = [begin(first, offset) for offset in range(5, 10)]
    pending_records[2].settle()
    pending_records[4].settle()
    second = OffsetTracker(first.committable())
    second.pass_over(8)
    assert second.committable() == Committable(8, encode_metadata(8, [9]))


def test_the_live_reader_begins_every_delivery_above_what_an_earlier_owner_has_settled() -> None:
    tracker = OffsetTracker(Committable(5, encode_metadata(5, [6, 9])))
    assert tracker.untouched_from == 10
    tracker.track(9, 1, 1)
    tracker.read_to = 10
    assert tracker.untouched_from == 10
    assert OffsetTracker().untouched_from == 0


def test_gaps_are_returned_once() -> None:
    tracker = OffsetTracker(Committable(5, ""))
    for offset in (7, 8, 12):
        begin(tracker, offset)
    assert tracker.take_gaps() == [(5, 7), (9, 12)]
    assert tracker.take_gaps() == []
    fresh = OffsetTracker()
    begin(fresh, 7)
    assert fresh.take_gaps() == [], "where to begin was not known"


def test_a_record_may_begin_ahead_of_its_turn() -> None:
    tracker = OffsetTracker(Committable(10, ""))
    ahead = tracker.track_ahead(12, 5, 0)
    assert ahead is not None
    assert tracker.is_ahead(12)
    assert (tracker.open_records, tracker.open_bytes, tracker.span) == (1, 5, 0)
    assert tracker.track_ahead(12, 5, 0) is None, "it has begun"
    ahead.settle()
    assert tracker.open_records == 0
    committable = tracker.committable()
    assert committable is not None
    assert (committable.offset, decode_settled(committable)) == (10, [12])
    first = tracker.track(10, 1, 1)
    assert first is not None
    assert tracker.track_ahead(10, 1, 0) is None, "its turn has come"
    tracker.track(11, 1, 1)
    assert tracker.track(12, 5, 1) is None, "it was settled ahead of its turn"
    assert not tracker.is_ahead(12)
    assert decode_settled(tracker.committable() or Committable(0, "")) == [12]


def test_a_record_that_is_open_when_its_turn_comes_holds_the_commit() -> None:
    tracker = OffsetTracker(Committable(10, ""))
    ahead = tracker.track_ahead(10, 5, 0)
    assert ahead is not None
    assert tracker.track(10, 5, 1) is None
    tracker.pass_over(20)
    assert (tracker.committable() or Committable(0, "")).offset == 10
    ahead.settle()
    assert (tracker.committable() or Committable(0, "")).offset == 20


def test_a_settled_record_passes_when_nothing_is_open() -> None:
    tracker = OffsetTracker(Committable(10, ""))
    ahead = tracker.track_ahead(10, 5, 0)
    assert ahead is not None
    ahead.settle()
    assert tracker.track(10, 5, 1) is None
    assert (tracker.span, (tracker.committable() or Committable(0, "")).offset) == (0, 11)


def test_what_an_earlier_owner_settled_does_not_begin_ahead() -> None:
    tracker = OffsetTracker(Committable(10, encode_metadata(10, [12, 14])))
    assert tracker.track_ahead(12, 1, 0) is None
    ahead = tracker.track_ahead(13, 1, 0)
    assert ahead is not None
    ahead.settle()
    assert decode_settled(tracker.committable() or Committable(0, "")) == [12, 13, 14]


def test_a_record_that_kafka_removed_is_forgotten() -> None:
    tracker = OffsetTracker(Committable(10, ""))
    ahead = tracker.track_ahead(12, 1, 0)
    assert ahead is not None
    tracker.pass_over(20)
    assert (tracker.committable() or Committable(0, "")) == Committable(20, "")
    assert not tracker.is_ahead(12)
    ahead.settle()
    assert tracker.open_records == 0


def test_reach_is_bounded() -> None:
    assert not OffsetTracker().reaches(0), "nothing is known yet"
    tracker = OffsetTracker(Committable(10, ""))
    assert tracker.reaches(10 + MAX_AHEAD - 1)
    assert not tracker.reaches(10 + MAX_AHEAD)
    with pytest.raises(RuntimeError, match="out of reach"):
        tracker.track_ahead(10 + MAX_AHEAD, 1, 0)
    tracker.track(10, 1, 1)
    tracker.end()
    assert not tracker.is_ahead(11)


@given(st.integers(0, 2**32), st.integers(0, 2**62))
@settings(max_examples=10, deadline=None)
def test_the_map_of_all_that_begins_ahead_fits(seed: int, head: int) -> None:
    bits = random.Random(seed)
    settled = [head + n for n in range(MAX_AHEAD) if bits.random() < 0.5]
    text = encode_metadata(head, settled, TOPIC)
    assert decode_settled(Committable(head, text)) == settled, "also when it does not compress"
    assert len(text) <= MAX_METADATA_CHARS


def test_a_replaced_tracker_holds_commits_back_while_a_record_below_the_cut_is_open() -> None:
    tracker = OffsetTracker(Committable(0, ""))
    pending = [tracker.track(offset, 1, 1) for offset in (0, 1, 2)]
    assert not tracker.holds_back
    tracker.replace(1, OffsetTracker())
    assert tracker.holds_back
    for one in pending[:1]:
        assert one is not None
        one.settle()
    assert not tracker.holds_back, "Kafka has lost the others"


def test_so_does_one_with_a_record_ahead_of_its_turn() -> None:
    tracker = OffsetTracker(Committable(0, ""))
    begun = tracker.track_ahead(5, 1, 0)
    assert begun is not None
    tracker.replace(5, OffsetTracker())
    assert not tracker.holds_back
    tracker.replace(6, OffsetTracker())
    assert tracker.holds_back
    begun.settle()
    assert not tracker.holds_back
