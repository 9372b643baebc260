"""The offset tracker: it decides which offset of an assigned partition may be committed.

Rules. There is one tracker per assignment, so a late settlement of an old assignment changes nothing. Only received
offsets are tracked, so a gap counts as settled: compaction, transaction markers and aborted records leave gaps. The
committable offset is the first open one. It never passes an open record and never goes back. A record costs O(1), and a
commit one pass over the span, that is, over the offsets from the committable one to the newest.

A commit carries a map of the settled offsets above it as metadata, so that the next owner does not send these again. A
tracker also passes on the settled offsets from its own start that it has not met yet, and those of records that were
begun ahead of their turn. Lanes finish out of order: without the map, a restart behind one slow customer repeats
hundreds of events (measured: 688 instead of 0 to 6).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final, final

from pushrail_stream.core.commit import Committable, SettledMap, new_commit, settled_map, topic_of
from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.cursor_texts import Budget, CursorTexts
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Record, TopicIdentity

MAX_AHEAD: Final = 20_000
"""Offsets above the committable one within which a record may begin ahead of its turn. Their map always fits into
`MAX_METADATA_CHARS`: 20,000 bits that do not compress are 3,150 characters."""
_CommitParts = tuple[int, list[int], TopicIdentity | None, int | None, str]


@final
class OffsetTracker:
    """The open records of one partition during one assignment."""

    __slots__ = (
        "__weakref__", "_ahead", "_cursor_texts", "_doubted", "_gaps", "_kept_below", "_known", "_made", "_next",
        "_span", "_started", "cursors", "epoch", "epoch_start", "is_lost", "is_replaced", "is_revoked", "log_start",
        "open_bytes", "open_records", "read_to", "replaced_cursors", "topic",
    )  # fmt: skip

    rereads: Final = False
    age_from_ms: Final = 0

    def __init__(
        self,
        committed: Committable | None = None,
        topic: TopicIdentity | None = None,
        cursors: Iterable[CursorState] = (),
    ) -> None:
        """``committed``: the group's last commit, with the offset to resume at and the settled offsets above it.

        ``topic``: the current topic. While it is unknown, the tracker assumes the topic that the commit names.
        ``cursors``: of the destinations that were behind at that commit.
        """
        self.cursors = {state.destination_id: Cursor(state, self) for state in cursors}
        """By destination. A commit names all of them, except for those with which it is done."""
        self._cursor_texts = CursorTexts()
        self.replaced_cursors = list[Cursor]()
        """Cursors that still have deliveries of records that Kafka has lost."""
        self._span: deque[PendingRecord] = deque()
        self._next = None if committed is None else committed.offset
        known = SettledMap([]) if committed is None else settled_map(topic, committed)
        self._known = deque(known.offsets)
        self.epoch = known.epoch
        """The newest leader epoch of the records that were read or that an earlier owner has settled, if known."""
        self.epoch_start: float = math.inf
        """The offset from which on every record is of that epoch or a later one; infinity before such a record came. An
        earlier owner may have read records of the epoch far above those that its cursors have still to deliver."""
        self.log_start = 0
        """The first offset that Kafka still has, or an earlier one."""
        self._ahead: dict[int, PendingRecord] = {}
        """Records that were begun ahead of their turn and have not been met yet, by offset."""
        self.topic = topic_of(committed) if topic is None and committed is not None else topic
        self._started = False
        self._gaps: list[tuple[int, int]] = []
        self._doubted: tuple[int, int | None] | None = None
        """`read_to` at the last doubt, and the leader epoch of what came then."""
        self.read_to = 0 if committed is None else committed.offset
        """The offset after the last record that was read, or the offset to resume at."""
        self._made: tuple[_CommitParts, Committable] | None = None
        """The last commit that was made, with its parts: it is asked for each second, and most have not moved."""
        self.open_records = 0
        self.open_bytes = 0
        self.is_revoked = False
        """Whether the partition is being revoked."""
        self.is_lost = False
        """Whether the partition was lost, so that nothing of it will be committed any more."""
        self._kept_below = 0
        self.is_replaced = False
        """Whether Kafka may no longer have the open records, so that each must be settled and none abandoned."""

    @property
    def span(self) -> int:
        """Offsets from the committable one to the newest, settled ones included."""
        return len(self._span)

    @property
    def is_mostly_settled(self) -> bool:
        """Whether a few open records keep a span of settled ones from being committed."""
        return self.open_records * 10 <= len(self._span)

    def oldest(self, offsets: int) -> list[PendingRecord]:
        """The open records among the first ``offsets`` of the span."""
        return [pending for pending in islice(self._span, offsets) if pending.is_open]

    @property
    def next_offset(self) -> int | None:
        """The offset after everything that was tracked or passed over; None before anything is known."""
        return self._next

    @property
    def untouched_from(self) -> int:
        """The offset from which on the live reader begins every delivery that is not a cursor's.

        Records below were read, or an earlier owner may have settled them except for the deliveries of its cursors.
        """
        return max(self.read_to, self._known[-1] + 1) if self._known else self.read_to

    @property
    def oldest_at_ms(self) -> int | None:
        """Kafka timestamp of the first open record, epoch milliseconds; None when there is none."""
        return self._span[0].at_ms if self._span else None

    def track(self, offset: int, size: int, deliveries: int, at_ms: int = 0) -> PendingRecord | None:
        """Open a record of ``size`` bytes with this number of deliveries; None when an earlier owner has settled it.

        Raises when an offset comes twice or out of order, which Kafka never does within one assignment.
        """
        if deliveries < 1:
            raise ValueError("a record has at least one delivery")
        if self._started and offset == self._next:
            self._next = offset + 1
        else:
            self._advance(offset)
        if self._ahead and (begun := self._ahead.pop(offset, None)) is not None:
            if begun.is_open or self._span:
                self._span.append(begun)
            return None
        known = self._known
        while known and known[0] < offset:
            known.popleft()
        if known and known[0] == offset:
            known.popleft()
            if self._span:
                self._span.append(PendingRecord(self, offset, 0, 0, at_ms))
            return None
        pending = PendingRecord(self, offset, size, deliveries, at_ms)
        self._span.append(pending)
        self.open_records += 1
        self.open_bytes += size
        return pending

    def meet_epoch(self, epoch: int | None, offset: int) -> Sequence[Cursor]:
        """Meet the record at this offset, the first one or of another leader epoch than `epoch`.

        An earlier owner has not settled the records of an epoch that it did not know: Kafka has lost those that had
        their offsets. Returns the cursors that were replaced, because they had read such records.
        """
        if epoch is None or (self.epoch is not None and epoch <= self.epoch):
            if epoch is not None and epoch == self.epoch:
                self.epoch_start = min(self.epoch_start, offset)
            return ()
        known = self._known
        while self.epoch is not None and known and known[-1] >= offset:
            known.pop()
        self.replaced_cursors = [cursor for cursor in self.replaced_cursors if cursor.held]
        is_known = self.epoch is not None
        replaced = [cursor for cursor in self.cursors.values() if is_known and cursor.has_read(offset)]
        self.cursors |= {cursor.destination_id: cursor.below(offset, self) for cursor in replaced}
        self.replaced_cursors += replaced
        self.epoch, self.epoch_start = epoch, offset
        return replaced

    def is_of_another_log(self, record: Record) -> bool:
        """Whether the record is of another log, or of another end of the log, than the live reader's.

        Kafka has lost the record since, or it has lost what the live reader read at its offset.
        """
        if self.topic is not None and record.topic_id not in {None, self.topic.topic_id}:
            return True
        epoch = record.leader_epoch
        if self.epoch is None or epoch is None or epoch == self.epoch:
            return False
        return record.offset >= self.epoch_start if epoch < self.epoch else record.offset < self.untouched_from

    def skip(self, offset: int) -> None:
        """Pass the record at this offset, all of whose deliveries are cursors'."""
        self._advance(offset)
        known = self._known
        while known and known[0] <= offset:
            known.popleft()

    def doubts(self, offset: int, epoch: int | None) -> bool:
        """Whether to read again at `read_to`, although reading went on at this offset, with this leader epoch.

        That is doubtful when its leader was elected after the last record came. When a log has lost its end, librdkafka
        throws away the records that it has fetched, and goes on at the new end: those between were not lost. When a log
        loses its end twice, the client goes on at the second cut, which may be above the first one, and below `read_to`
        or just there. Whatever comes of the same leader after reading again is the next one of the log.
        """
        doubted = self.read_to, epoch
        if not self.awaits(epoch) or doubted == self._doubted:
            return False
        if offset == self.read_to and self._follows(epoch):
            return False
        self._doubted = doubted
        return True

    def awaits(self, epoch: int | None) -> bool:
        """Whether nothing of this leader epoch has come yet."""
        return epoch is not None and self.epoch is not None and epoch > self.epoch

    def _follows(self, epoch: int | None) -> bool:
        """Whether one leader was elected since the last record came, so that its log cannot have been cut twice."""
        return self.epoch is not None and epoch == self.epoch + 1

    def reaches(self, offset: int) -> bool:
        """Whether a record at this offset may begin ahead of its turn."""
        return self._next is not None and offset - self._head(self._next) < MAX_AHEAD

    def is_ahead(self, offset: int) -> bool:
        """Whether the record was begun ahead of its turn, which has not come yet."""
        return offset in self._ahead

    def track_ahead(self, offset: int, size: int, at_ms: int) -> PendingRecord | None:
        """Open a record with one delivery ahead of its turn; None when it was begun, or settled by an earlier owner.

        When its turn comes, `track` returns None for it. To begin a record out of reach is a bug and raises.
        """
        if not self.reaches(offset):
            raise RuntimeError(f"offset {offset} is out of reach")
        known = self._known
        place = bisect_left(known, offset)
        is_known = place < len(known) and known[place] == offset
        if self._next is None or offset < self._next or offset in self._ahead or is_known:
            return None
        pending = self._ahead[offset] = PendingRecord(self, offset, size, 1, at_ms)
        self.open_records += 1
        self.open_bytes += size
        return pending

    def committable(self, budget: Budget | None = None) -> Committable | None:
        """The offset to resume at, with the map of the settled offsets above; None before anything is known.

        It is also None when the ``budget`` does not suffice for the texts of cursors.
        """
        if self._next is None:
            return None
        head = self._head(self._next)
        if (cursors := self._cursor_texts.text(self.cursors, head, budget)) is None:
            return None
        settled = [pending.offset for pending in self._span if not pending.is_open]
        settled += self._settled_above(self._next)
        wanted = head, settled, self.topic, self.epoch, cursors
        if self._made is None or self._made[0] != wanted:
            self._made = wanted, new_commit(*wanted)
        return self._made[1]

    @property
    def has_gaps(self) -> bool:
        """Whether gaps were met since `take_gaps` was last called."""
        return bool(self._gaps)

    def take_gaps(self) -> list[tuple[int, int]]:
        """The gaps since the last call: the first offset of each, and the first offset after it."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def pass_over(self, offset: int) -> None:
        """Expect no more records below ``offset``. Open records stay open."""
        if self._next is None or offset > self._next:
            self._next = offset
            self.read_to = max(self.read_to, offset)
            while self._known and self._known[0] < offset:
                self._known.popleft()

    def step_over(self, offset: int) -> None:
        """As `pass_over`, of records that cannot be read, so that their leader epoch is unknown.

        It may be a later one than that of the records before. With the earlier epoch, Kafka's client would take
        ``offset`` for lost and go back to where that epoch ended: to the records that cannot be read.
        """
        self.pass_over(offset)
        self._known.clear()  # they count for the earlier epoch only
        self.epoch, self.epoch_start = None, math.inf

    def replace(self, kept_below: int, new: OffsetTracker) -> None:
        """Leave the partition to another tracker. Kafka still has the records below ``kept_below``, but no others.

        Cursors keep their place in the records below.
        """
        self.is_replaced, self._kept_below, new.read_to = True, kept_below, kept_below
        if kept_below:
            new.cursors = {name: cursor.below(kept_below, new) for name, cursor in self.cursors.items()}

    @property
    def has_open(self) -> bool:
        """Whether a record is open: the tracker's own, or one of a cursor's that is in memory."""
        cursors = (*self.cursors.values(), *self.replaced_cursors)
        return self.open_records > 0 or any(cursor.held for cursor in cursors)

    @property
    def holds_back(self) -> bool:
        """Whether this tracker was replaced and has an open record that Kafka still has: no commit may pass it."""
        is_open = bool(self._span) and self._span[0].offset < self._kept_below
        return is_open or any(begun.is_open for offset, begun in self._ahead.items() if offset < self._kept_below)

    def revoke(self, *, is_lost: bool = False) -> None:
        """Begin to revoke the partition. No delivery starts any more, but those in flight may settle."""
        self.is_revoked, self.is_lost = True, is_lost

    def end(self) -> None:
        """Forget the records, because the last commit of the partition has been read from them.

        This breaks the reference cycle of tracker and records. Deliveries in flight may still settle.
        """
        self._span.clear()
        self._ahead.clear()

    def closed(self, pending: PendingRecord) -> None:
        """Note that all deliveries of this record have settled."""
        self.open_records -= 1
        self.open_bytes -= pending.size
        span = self._span
        while span and not span[0].is_open:
            span.popleft()

    def _head(self, next_offset: int) -> int:
        return self._span[0].offset if self._span else next_offset

    def _settled_above(self, next_offset: int) -> Collection[int]:
        """The settled offsets that were not met yet, ascending."""
        if not self._ahead:
            return self._known
        # An offset below was never met: Kafka has removed its record.
        self._ahead = {offset: begun for offset, begun in self._ahead.items() if offset >= next_offset}
        return sorted([*self._known, *(offset for offset, begun in self._ahead.items() if not begun.is_open)])

    def _advance(self, offset: int) -> None:
        expected = offset if self._next is None else self._next
        if offset > expected:
            self._gaps.append((expected, offset))
        elif offset < expected and self._started:
            raise RuntimeError(f"offset {offset} came when {expected} was next")
        elif offset < expected:
            self._known.clear()  # an operator moved the group back, to deliver settled records again
        self._started = True
        self._next = offset + 1
