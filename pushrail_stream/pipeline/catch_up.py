"""Catching up: the records of the events topic that are read again for destinations that were behind.

A partition is read from the lowest place of a cursor that can take more. The other cursors come along from where they
stand, and a cursor whose lane is full is left behind. A cursor that has reached the live reader ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import owner_mark
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.core.glance import Glance
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.core.signals import CursorClosed, CursorTrimmed
from pushrail_stream.pipeline.admission import Admission
from pushrail_stream.pipeline.cursor_care import CursorCare
from pushrail_stream.pipeline.cursor_room import CursorRoom
from pushrail_stream.pipeline.known_logs import KnownLogs
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.stats import CatchUpStats

_NEAR: Final = 500
"""Records below the first wanted cursor of a partition from which reading may begin, so that cursors there come along.
About one fetch: reading them delays the wanted cursor by one turn of the reader."""


class Reading(NamedTuple):
    """Records of one partition, in order: all of those from ``start`` to below ``end`` that Kafka still has."""

    partition: Partition
    start: int
    end: int
    records: Sequence[Record]
    first: int = 0
    """The first offset that Kafka still has."""
    log: int | None = None
    """The log's number in `CatchUp.logs` when its reading began; None: it is the present one."""
    epoch: int | None = None
    """Leader epoch of the last record, or of a marker after it, if known."""


@final
class CatchUp:
    """Begins the deliveries of cursors. Lives on the event loop."""

    def __init__(
        self,
        ports: Ports,
        policy: Policy,
        admission: Admission,
        care: CursorCare,
        room: CursorRoom,
        trackers: Mapping[Partition, OffsetTracker],
    ) -> None:
        """``trackers``: of the partitions that are ours now."""
        self._bus = ports.bus
        self._directory = ports.directory
        self._observe = ports.observe
        self._vendor, self._decode = policy.vendor, policy.decode
        self._names_customers = policy.names_customers
        self._admission = admission
        self._care = care
        self._trackers = trackers
        self._room = room
        self._known = KnownLogs(trackers)
        self.logs: Mapping[Partition, int] = {}
        """By partition the number of its log at the last `plan`."""
        self._records = self._deliveries = self._turn = 0
        self._is_idle = True
        """Whether there was nothing to read at the last look."""
        self.has_cursors = False
        """Whether there was a cursor at the last look. Without one, the reader sleeps until `begin`."""
        self.woken: Callable[[], None] = _nothing
        """Called when there may be something to read."""

    @property
    def stats(self) -> CatchUpStats:
        """The records that were read so far, and the deliveries that they began."""
        return CatchUpStats(self._records, self._deliveries)

    def accept(self, readings: Sequence[Reading]) -> Mapping[Partition, int]:
        """Take records. Returns the partitions to read next, and the offset from which to read each."""
        # Another partition is the first each time: the last ones may find the lanes full.
        self._turn += 1
        start = self._turn % max(1, len(readings))
        for reading in (*readings[start:], *readings[:start]):
            tracker = self._trackers.get(reading.partition)
            if tracker is None or tracker.is_revoked:
                continue
            if reading.log is None or reading.log == self._known.number(reading.partition):
                self._take(reading, tracker)
        return self.plan()

    def plan(self) -> Mapping[Partition, int]:
        """The partitions to read, and the offset from which to read each. Ends cursors that have caught up."""
        self._care.look()
        places = dict[Partition, int]()
        for partition, tracker in self._trackers.items():
            for cursor in tracker.cursors.values():
                if cursor.is_behind and self._is_wanted(cursor):
                    if cursor.hand_over(tracker.untouched_from):
                        self._observe(CursorClosed(partition, cursor.destination_id, "caught_up"))
                    if cursor.is_behind:
                        places[partition] = min(cursor.position, places.get(partition, cursor.position))
        self._is_idle = not places
        self.has_cursors = any(tracker.cursors for tracker in self._trackers.values())
        self.logs = self._known.numbers()
        return {partition: self._start(partition, place) for partition, place in places.items()}

    def begin(self) -> None:
        """Look at the cursors, because there may be the first ones."""
        if not self.has_cursors and any(tracker.cursors for tracker in self._trackers.values()):
            self.has_cursors = True
            self.woken()

    def wake(self, lane: Lane) -> None:
        """Read on, because this lane may take more, if one of its cursors wants records."""
        if self._is_idle:
            cursors = [tracker.cursors.get(lane.destination.id) for tracker in self._trackers.values()]
            if any(cursor is not None and cursor.is_behind and self._is_wanted(cursor) for cursor in cursors):
                self._is_idle = False
                self.woken()

    def step_over(self, partition: Partition, start: int, end: int) -> None:
        """Pass the batch from ``start`` to below ``end``, which cannot be read, if the live reader has passed it."""
        tracker = self._trackers.get(partition)
        if tracker is not None and end <= tracker.read_to:
            for cursor in tracker.cursors.values():
                if start <= cursor.position < end:
                    self._trim(partition, cursor, end)

    def _start(self, partition: Partition, place: int) -> int:
        """The offset from which to read. Cursors just below a wanted one come along, if they have room."""
        cursors = self._trackers[partition].cursors.values()
        near = [one for one in cursors if place - _NEAR <= one.position < place and one.is_behind]
        return min((one.position for one in near if self._may_join(one)), default=place)

    def _may_join(self, cursor: Cursor) -> bool:
        """Whether reading begins at this cursor because a wanted one is near."""
        return self._room.takes(cursor) if _needs_no_lane(cursor) else not self._room.is_filled(cursor)

    def _is_wanted(self, cursor: Cursor) -> bool:
        """Whether records are read for the cursor: its lane is half empty, or its next deliveries need no lane."""
        return self._room.takes(cursor) if _needs_no_lane(cursor) else self._room.is_hungry(cursor)

    def _may_travel(self, cursor: Cursor) -> bool:
        """Whether the cursor's lane has room for a delivery."""
        return self._room.takes(cursor) if _needs_no_lane(cursor) else not self._room.is_full(cursor)

    def _trim(self, partition: Partition, cursor: Cursor, first: int) -> None:
        """Give up the events of a cursor below ``first``, because they cannot be read any more."""
        start = cursor.position
        self._observe(CursorTrimmed(partition, cursor.destination_id, start, first, cursor.trim(first)))

    def _take(self, reading: Reading, tracker: OffsetTracker) -> None:
        """Begin deliveries until nothing is left to read or every lane is full."""
        if reading.records and tracker.is_of_another_log(reading.records[0]):
            return
        tracker.log_start = max(tracker.log_start, reading.first)
        for cursor in tracker.cursors.values():
            if cursor.position < reading.first:
                self._trim(reading.partition, cursor, reading.first)
        travellers = _Travellers(
            cursor
            for cursor in tracker.cursors.values()
            if cursor.is_behind and reading.start <= cursor.position < reading.end and self._may_travel(cursor)
        )
        end = max(reading.end, reading.start + _NEAR + 1)
        travellers.wanted = {
            cursor.destination_id
            for cursor in tracker.cursors.values()
            if cursor.is_behind and reading.start <= cursor.position < end and self._is_wanted(cursor)
        }
        travellers.gone = [one for one in travellers.all if self._care.ends(reading.partition, tracker, one)]
        self._read(reading.records, tracker, travellers)
        self._arrive(reading, tracker, travellers)

    def _read(self, records: Sequence[Record], tracker: OffsetTracker, travellers: _Travellers) -> None:
        glance = self._glance(travellers)
        for record in records:
            if tracker.is_of_another_log(record):
                travellers.moving.clear()  # the cursors stay where they are, until both readers read the same log
                break
            if not travellers.wanted:
                self._halt(record, tracker, travellers)
                break
            self._records += 1
            if glance.excludes(record.value) and not any(one.names(record.offset) for one in travellers.all):
                continue
            event = self._decode(record.value, record.headers, self._vendor)
            if isinstance(event, Undecodable):
                self._refuse(record, event, travellers)
            else:
                self._skip_gone(record, event, travellers)
                self._deliver(record, event, tracker, travellers)

    def _glance(self, travellers: _Travellers) -> Glance:
        """Rules other customers out; nothing while a destination is gone, since only its customer's mark is known."""
        is_blind = bool(travellers.gone) or not self._names_customers
        documents = [] if is_blind else [self._directory.get(name) for name in travellers.moving]
        return Glance({document.customer_external_id for document in documents if document is not None})

    def _halt(self, record: Record, tracker: OffsetTracker, travellers: _Travellers) -> None:
        """Stop before this record, because no cursor needs it now. Cursors whose lanes have room stop here too."""
        for cursor in travellers.moving.values():
            if (end := _end(cursor, tracker)) < record.offset:
                cursor.pass_to(end, 0)
            else:
                cursor.pass_to(record.offset, record.timestamp_ms)
        travellers.moving.clear()

    def _arrive(self, reading: Reading, tracker: OffsetTracker, travellers: _Travellers) -> None:
        """Note what was read. An open offset whose record was not there is lost."""
        reached_ms = reading.records[-1].timestamp_ms if reading.records else 0
        marker = reading.records[-1].offset + 1 if reading.records else reading.start
        if marker < tracker.untouched_from and tracker.awaits(reading.epoch):
            travellers.moving.clear()  # the log has been cut off, and the live reader has not noticed it yet
        for cursor in travellers.moving.values():
            if (end := _end(cursor, tracker)) < reading.end:
                cursor.pass_to(end, 0)
            else:
                cursor.pass_to(reading.end, reached_ms)
        for cursor in travellers.all:
            if lost := cursor.give_up_missing():
                where = (reading.partition, cursor.destination_id, reading.start, cursor.position)
                self._observe(CursorTrimmed(*where, lost))

    def _deliver(self, record: Record, event: Event, tracker: OffsetTracker, travellers: _Travellers) -> None:
        """Begin the deliveries of one event. A cursor whose lane is full stays at this record."""
        for destination in self._directory.route(event.vendor, event.customer_external_id):
            cursor = travellers.moving.get(destination.id)
            if cursor is None or not cursor.position <= record.offset < _end(cursor, tracker):
                continue
            if not cursor.serves(owner_mark(event.vendor, event.customer_external_id)):
                continue
            is_expired = self._care.is_expired(record, cursor, destination) and destination.wants(event)
            leaves = (is_expired or cursor.is_near_start) and destination.closed_as is None
            if not self._room.takes(cursor) if leaves else self._room.is_full(cursor):
                cursor.pass_to(record.offset, record.timestamp_ms)
                cursor.is_urgent = is_expired
                travellers.leave(destination.id)
                continue
            delivery = self._begin(record, event, destination, cursor)
            if delivery is not None:
                self._admission.admit_late(delivery, destination, is_expired=is_expired, stays=not cursor.is_near_start)
                if cursor.position <= record.offset:  # its lane takes less now, and has put some back: they come first
                    travellers.leave(destination.id)
                elif not leaves and destination.id in travellers.wanted and self._room.is_filled(cursor):
                    travellers.wanted.discard(destination.id)

    def _begin(self, record: Record, event: Event, destination: Destination, cursor: Cursor) -> Delivery | None:
        """Begin one delivery; None when it is in memory, settled, or not the cursor's."""
        pending = self._admission.open_on_cursor(record, event, cursor)
        if pending is None:
            return None
        self._deliveries += 1
        self._room.began()
        delivery = Delivery(event, record, destination.id, self._bus.size(event, destination), pending)
        delivery.first_attempt_ms = self._care.due_ms(record, cursor)
        return delivery

    def _skip_gone(self, record: Record, event: Event, travellers: _Travellers) -> None:
        """Skip the events of cursors whose destination was deleted, or is another customer's now."""
        for cursor in travellers.gone:
            is_own = cursor.names(record.offset) or cursor.owner == owner_mark(event.vendor, event.customer_external_id)
            if is_own and record.offset >= cursor.position:
                pending = self._admission.open_on_cursor(record, event, cursor)
                if pending is not None:
                    self._admission.admit([Delivery(event, record, cursor.destination_id, 0, pending)], None)

    def _refuse(self, record: Record, why: Undecodable, travellers: _Travellers) -> None:
        """Make a dead letter for each cursor that names this record: it could be decoded when it was first read.

        The vendor of the settings has changed since. The live reader makes the dead letter of any other record.
        """
        for cursor in travellers.moving.values():
            if cursor.position <= record.offset and cursor.names(record.offset):
                self._admission.refuse_on_cursor(record, why, cursor)


class _Travellers:
    """The cursors of one partition for which records are read at present."""

    def __init__(self, cursors: Iterable[Cursor]) -> None:
        self.moving = {cursor.destination_id: cursor for cursor in cursors}
        """Those that have not met a full lane."""
        self.all = list(self.moving.values())
        self.wanted = set[str]()
        """Those of them for which the records are read. The others come along while these need records."""
        self.gone: Sequence[Cursor] = ()
        """Those whose destination was deleted, or is another customer's now."""

    def leave(self, destination_id: str) -> None:
        """Leave a cursor behind."""
        del self.moving[destination_id]
        self.wanted.discard(destination_id)


def _end(cursor: Cursor, tracker: OffsetTracker) -> int:
    """The offset at which reading ends for the cursor.

    While it has no end, it overtakes the live reader only in records that an earlier owner has read.
    """
    return max(tracker.untouched_from, cursor.next) if cursor.to is None else max(cursor.to, cursor.reread_to)


def _nothing() -> None:
    """Wait for nothing: there is no reader."""


def _needs_no_lane(cursor: Cursor) -> bool:
    """Whether its next deliveries leave as dead letters or as copies, without a call."""
    return cursor.is_urgent or cursor.is_near_start
