"""A cursor: one destination's own place in one partition of the events topic, while the destination is behind.

Rules. From ``since`` on, the destination's deliveries are the cursor's and no longer the live reader's, up to ``to``,
where the live reader takes over again. When the destination falls behind again before its cursor is gone, the cursor
opens again, without the parts that the live reader delivered meanwhile. Besides its own parts, the cursor has the
offsets that it adopted; a cursor of few deliveries has nothing else. It keeps the offsets that are open, and it reads
the others from ``next`` on. A commit names every cursor of its partition, so the next owner continues with the same
ones.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from pushrail_stream.core.cursor_state import CursorEntry, CursorState, entry_of
from pushrail_stream.core.pending import PendingRecord, RecordOwner

_MAX_LIVE: Final = 4
"""Most parts of the live reader that a cursor remembers, so that its text stays short. It forgets an older part when it
has read everything before that: after a crash, the live reader may deliver events from before that part again."""


class LostEvents(NamedTuple):
    """Events of a cursor that Kafka has lost before they were read again."""

    start: int
    end: int
    """The offset after the last one that can be among them."""
    known: int
    """Those that the cursor had named. The number of the others is not known."""


@final
class Cursor:
    """One cursor during one assignment of its partition.

    A delivery of a cursor settles as any other one does: its `PendingRecord` belongs to the cursor instead of the
    partition's tracker. Every open offset below `position` is in memory, and the others are read again.
    """

    __slots__ = (
        "_adopted", "_entry", "_held", "_highest", "_is_replaced", "_open", "_partition", "destination_id",
        "held_bytes", "is_near_start", "is_needed", "is_urgent", "live", "next", "opened_ms", "owner", "position",
        "reached_ms", "reread_to", "since", "taken_ms", "to",
    )  # fmt: skip

    def __init__(self, state: CursorState, partition: RecordOwner) -> None:
        """``partition``: its tracker, which knows whether the partition is being revoked."""
        self._partition = partition
        self.destination_id = state.destination_id
        self.owner = state.owner
        """Mark of the customer whose events it has (`owner_mark`); empty when unknown."""
        self.since = state.since
        self.next = state.next
        self.to = state.to
        self.live = list(state.live)
        self.opened_ms = state.opened_ms
        self.taken_ms: int | None = None
        """Epoch milliseconds of this worker's first look at the cursor; None before."""
        self.reached_ms = state.oldest_ms
        """Latest record time of the records below `next`, or an earlier time; epoch milliseconds."""
        self._open = dict.fromkeys(state.open, state.oldest_ms)
        """Record times of the open offsets, epoch milliseconds."""
        self._adopted = frozenset(offset for offset in state.open if not self._has_range(offset))
        """The offsets that an earlier owner adopted. The live reader may meet them again after they have settled."""
        self._held: dict[int, PendingRecord] = {}
        """The open offsets whose deliveries are in memory."""
        self.held_bytes = 0
        self._highest = state.next - 1
        """The highest offset that has settled, from `since` on, or a higher one."""
        self.position = self.lowest
        """The offset from which the catch-up reader has to read for this cursor."""
        self.reread_to = max(state.open, default=-1) + 1
        """The offset after the last open one that is not in memory."""
        self._is_replaced = False
        self._entry: CursorEntry | None = None
        """Its text for a commit; None after a change. Of thousands of cursors, most change seldom."""
        self.is_needed = True
        """Whether the next commit needs its newest text, because no earlier one names all that it has to deliver."""
        self.is_urgent = False
        """Whether it is read although its lane is full: its next delivery is too old for a call, or is skipped."""
        self.is_near_start = False
        """Whether Kafka may soon remove its records."""

    @property
    def is_revoked(self) -> bool:
        """Whether the partition is being revoked."""
        return self._partition.is_revoked

    @property
    def is_lost(self) -> bool:
        """Whether the partition was lost."""
        return self._partition.is_lost

    @property
    def is_replaced(self) -> bool:
        """Whether Kafka may no longer have the open records."""
        return self._is_replaced or self._partition.is_replaced

    @property
    def rereads(self) -> bool:
        """Whether an open record may leave memory, to be read again."""
        return not self.is_replaced

    @property
    def age_from_ms(self) -> int:
        """Epoch milliseconds from which the age of its deliveries counts at the earliest."""
        return self.opened_ms

    @property
    def held(self) -> int:
        """Deliveries in memory: in a lane, in a call or on the way to a topic."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Events that were read and are not delivered, in memory or not."""
        return len(self._open)

    def unread(self, live_next: int, since: int = 0) -> int:
        """Offsets not read yet, up to the live reader's next one. Other destinations' events are among them.

        Those below ``since`` do not count.
        """
        start, end = max(self.next, since), live_next if self.to is None else self.to
        live = sum(max(0, last - max(first, start)) for first, last in self.live)
        return max(0, end - start - live)

    @property
    def begins_at(self) -> int:
        """The first offset of its newest part."""
        return self.live[-1][1] if self.live else self.since

    @property
    def is_behind(self) -> bool:
        """Whether the catch-up reader has to read for this cursor."""
        return self.to is None or self.position < max(self.to, self.reread_to)

    @property
    def oldest_ms(self) -> int:
        """Record time of the oldest event that is not delivered, or of an earlier one; epoch milliseconds."""
        return self._open.get(self.lowest, self.reached_ms)

    @property
    def position_ms(self) -> int:
        """Record time of the record at `position`, or of an earlier one; epoch milliseconds."""
        return self._open.get(self.position, self.reached_ms)

    @property
    def lowest(self) -> int:
        """The lowest offset that is not delivered, or a lower one."""
        lowest = min(self._open, default=self.next)
        has_read_all = self.to is not None and self.next >= self.to
        return lowest if has_read_all else min(lowest, self.next)

    def names(self, offset: int) -> bool:
        """Whether the offset is known to be one of the destination's, and has not settled."""
        return offset in self._open

    def owns(self, offset: int) -> bool:
        """Whether the destination's delivery of this offset is the cursor's, settled or not."""
        return offset in self._open or self._has_range(offset) or offset in self._adopted

    def serves(self, owner: str) -> bool:
        """Whether it has the events of the customer with this mark: a destination's id may go to another customer."""
        return self.owner in {"", owner}

    def reopen(self, live_next: int) -> None:
        """Own the destination's deliveries again from the live reader's next offset on, or without an end so far."""
        if self.to is None:
            return
        self._changed()
        self.is_needed = True
        if self.to < live_next:
            self.live.append((self.to, live_next))
            if not self.is_behind:
                self.position = live_next
            if self.next >= self.to:
                self.next = live_next
            while len(self.live) > _MAX_LIVE and self.next >= self.live[0][0]:
                self.since = self.live.pop(0)[1]
        else:
            self.position = min(self.position, self.to)
        self.to = None

    def close(self, live_next: int) -> None:
        """Own nothing from the live reader's next offset on: its destination is deleted, or another customer's."""
        if self.to is None:
            self._changed()
            self.to = max(self.next, live_next)

    def begin_age(self, at_ms: int) -> None:
        """Let the age of its deliveries count from then on."""
        self._changed()
        self.opened_ms = at_ms

    def adopt(self, pending: PendingRecord) -> PendingRecord:
        """Take over a delivery that waits. Returns the record to settle instead."""
        if pending.owner is self:
            return pending
        self._changed()
        self.is_needed = True
        if not self.is_behind:
            self.position = max(self.position, pending.offset + 1)
        self._open[pending.offset] = pending.at_ms
        held = self._hold(pending.offset, pending.size, pending.at_ms)
        held.is_dead_lettered = pending.is_dead_lettered
        pending.settle()
        return held

    def begin(self, offset: int, size: int, at_ms: int) -> PendingRecord | None:
        """Begin the delivery of a record that was just read; None when it is in memory, settled, or not the cursor's.

        Records come in order, from `position` on.
        """
        self.position = offset + 1
        if offset in self._held:
            return None
        if offset not in self._open:
            if offset < self.next or not self._has_range(offset):
                return None
            self._changed()
            self._open[offset] = at_ms
            self.reached_ms = max(self.reached_ms, at_ms)
            self.next = offset + 1
        return self._hold(offset, size, at_ms)

    def put_back(self, pending: PendingRecord) -> None:
        """Forget the delivery of an open record, to read it again later."""
        del self._held[pending.offset]
        self.held_bytes -= pending.size
        self.position = min(self.position, pending.offset)
        self.reread_to = max(self.reread_to, pending.offset + 1)

    def has_read(self, end: int) -> bool:
        """Whether the cursor has read or adopted a record at ``end`` or later."""
        return self.next > end or max((*self._open, *self._adopted), default=-1) >= end

    def below(self, end: int, partition: RecordOwner) -> Cursor:
        """The cursor that replaces this one, because Kafka has lost the records from ``end`` on.

        The new cursor takes over the deliveries below. This one keeps those above, whose records cannot be read again.
        """
        still_open = {offset: at_ms for offset, at_ms in self._open.items() if offset < end}
        state = CursorState(
            destination_id=self.destination_id, owner=self.owner, since=min(self.since, end), next=min(self.next, end),
            to=None if self.to is None else min(self.to, end), oldest_ms=self.oldest_ms, opened_ms=self.opened_ms,
            live=tuple((first, min(last, end)) for first, last in self.live if first < end),
        )  # fmt: skip
        new = Cursor(state, partition)
        new._open = still_open
        new._adopted = frozenset(offset for offset in self._adopted if offset < end)
        new.position, new.reread_to = min(self.position, end), min(self.reread_to, end)
        new._highest = min(self._highest, end - 1)
        for offset in [offset for offset in self._held if offset < end]:
            pending = self._held.pop(offset)
            self.held_bytes -= pending.size
            pending.owner = new
            new._held[offset] = pending
            new.held_bytes += pending.size
        self._is_replaced = True
        return new

    def lost_from(self, first: int, live_next: int) -> LostEvents | None:
        """The events that are lost with the records from ``first`` on; None when no event can be among them.

        Those in memory are not lost. ``live_next``: the live reader's next offset.
        """
        known = sum(offset >= first and offset not in self._held for offset in self._open)
        if known == 0 and self.unread(live_next, first) == 0:
            return None
        end = max(live_next if self.to is None else self.to, self.reread_to)
        return LostEvents(max(self.position, first), end, known)

    def trim(self, first: int) -> int:
        """Give up the offsets below ``first`` that are not in memory. Returns the number of open ones among them."""
        self.pass_to(first, 0)
        return self.give_up_missing()

    def give_up_missing(self) -> int:
        """Give up the open offsets whose records were not found where they were read again. Returns their number."""
        missing = [offset for offset in self._open if offset < self.position and offset not in self._held]
        for offset in missing:
            self._changed()
            del self._open[offset]
        return len(missing)

    def pass_to(self, offset: int, at_ms: int) -> None:
        """Note that all below ``offset`` was read for this cursor. ``at_ms``: record time of a record there, or 0."""
        self.position = max(self.position, offset)
        end = offset if self.to is None else min(offset, self.to)
        if end > self.next:
            self._changed()
            self.next, self.reached_ms = end, max(self.reached_ms, at_ms)

    def hand_over(self, live_next: int) -> bool:
        """End the cursor at its position if that has reached the live reader's. Returns whether it ends now."""
        if self.to is None and self.position >= live_next:
            self._changed()
            self.to = max(self.position, self.next)
            return True
        return False

    def is_done(self, committed: int) -> bool:
        """Whether nothing is left of the cursor under a commit at this offset."""
        return self.to is not None and not self._open and self.to <= committed and not self.is_behind

    def closed(self, pending: PendingRecord) -> None:
        """Note that the delivery of this record has settled."""
        self._changed()
        del self._open[pending.offset]
        del self._held[pending.offset]
        self.held_bytes -= pending.size
        if pending.offset >= self.since:
            self._highest = max(self._highest, pending.offset)

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing has changed since its text was made."""
        return self._entry is not None

    def entry(self) -> CursorEntry:
        """The cursor's text for a commit."""
        if self._entry is None:
            self._entry = entry_of(self.state())
            self.is_needed = False
        return self._entry

    def state(self) -> CursorState:
        """The cursor for a commit. Open offsets above every settled one need not be named: the next owner reads on."""
        first = max(self.since, self._highest + 1)
        read_on = {offset for offset in self._open if offset >= first and self._has_range(offset)}
        return CursorState(
            destination_id=self.destination_id,
            owner=self.owner,
            since=self.since,
            next=min((*read_on, self.next)),
            to=self.to,
            live=tuple(self.live),
            oldest_ms=self.oldest_ms,
            opened_ms=self.opened_ms,
            open=tuple(sorted(self._open.keys() - read_on)),
        )

    def _changed(self) -> None:
        self._entry = None

    def _has_range(self, offset: int) -> bool:
        if offset < self.since or (self.to is not None and offset >= self.to):
            return False
        return not self.live or not any(start <= offset < end for start, end in self.live)

    def _hold(self, offset: int, size: int, at_ms: int) -> PendingRecord:
        pending = self._held[offset] = PendingRecord(self, offset, size, 1, at_ms)
        self.held_bytes += size
        return pending
