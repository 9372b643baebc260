"""The accounts of a check: compares every expected delivery with every trace of it in the topics.

No worker takes part. Records still held by a worker or a retry topic are read first: a delivery that moves on meanwhile
then shows up further down its way and is never missed in between.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, final

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.event import Decode, Event, decode
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.retry import Fault
from pushrail_stream.operations.attempts import read_attempt
from pushrail_stream.operations.dead_letters import DeadLetterRecord
from pushrail_stream.operations.spill import Spill, SpilledEvent, Trace
from pushrail_stream.ports.pipeline import Directory

Status = Literal["delivered", "dead_lettered", "skipped", "pending", "missing", "too_new"]
STATUSES: Final[tuple[Status, ...]] = ("delivered", "dead_lettered", "skipped", "pending", "missing", "too_new")
"""``too_new``: the event went to other destinations, and nothing shows that this one existed by then. Either it was not
a delivery, or the first deliveries of a new destination were lost: only its creation time can tell."""
_RANK: Final = {"delivered": 3, "dead_lettered": 2, "skipped": 1, "retrying": 0}
"""A delivered event stays delivered when a replay of it fails, and a replay may deliver a dead letter."""

WAITING: Final = "waiting"
"""The status of a trace on a retry topic."""


class TracedDelivery(NamedTuple):
    """A delivery and its latest trace."""

    origin: Origin
    customer: str
    destination: str | None
    """None: the trace is of the event as a whole."""
    last: str
    """A status of the attempts log; empty when there is no trace."""
    fault: Fault | None = None
    """Of a dead letter."""
    repeated: int = 0
    """Confirmations after the first, not counting replays."""
    is_replaying: bool = False
    """Whether a replayed copy waits on a retry topic."""


class Topic(NamedTuple):
    """The topic of events."""

    name: str
    id: str | None = None
    """Kafka's id of the topic; None where the broker does not tell ids."""

    def holds(self, name: str, topic_id: str | None) -> bool:
        """Whether an origin lies in this topic, and not in one of the same name that was deleted."""
        return name == self.name and (topic_id is None or self.id is None or topic_id == self.id)


@final
class Accounts:
    """Takes records in the order of its methods, and then tells the status of each delivery."""

    def __init__(
        self,
        spill: Spill,
        topic: Topic,
        directory: Directory,
        vendor: str | None,
        *,
        customer: str | None = None,
        decode: Decode = decode,
    ) -> None:
        """``directory`` has the destinations there are now; ``customer`` limits the check to one."""
        self._spill = spill
        self._topic = topic
        self._directory = directory
        self._vendor, self._decode = vendor, decode
        self._customer = customer
        self._open: dict[int, tuple[int, frozenset[int]]] = {}
        self._cursors: dict[tuple[int, str], tuple[CursorState, frozenset[int]]] = {}
        """By partition and destination the cursors of the destinations that are behind, and their open offsets."""
        self._unreadable_cursors: set[int] = set()
        """Partitions whose cursors cannot be read."""
        self._first_seen: dict[str, int] = {}
        """By destination the time of its first attempt, epoch milliseconds."""
        self.unreadable = 0
        """Attempt records that cannot be understood."""

    def set_committed(self, partition: int, committed: int, settled: Collection[int]) -> None:
        """Set the committed offset of the workers' group in a partition, and the settled offsets above it."""
        self._open[partition] = (committed, frozenset(settled))

    def set_cursors(self, partition: int, cursors: Iterable[CursorState]) -> None:
        """Set the cursors in the group's commit of a partition: their events are below the committed offset."""
        for state in cursors:
            self._cursors[partition, state.destination_id] = state, frozenset(state.open)

    def set_unreadable_cursors(self, partition: int) -> None:
        """Note that the partition has unreadable cursors. Any delivery without an end may be on one of them."""
        self._unreadable_cursors.add(partition)

    def add_event(self, record: Record) -> None:
        """Add a record of the events topic."""
        event = self._decode(record.value, record.headers, self._vendor)
        vendor, customer = (event.vendor, event.customer_external_id) if isinstance(event, Event) else (None, "")
        if self._customer in {None, customer}:
            at = record.timestamp_ms
            self._spill.add_event(SpilledEvent(record.partition, record.offset, vendor, customer, at))

    def add_waiting(self, letter: DeadLetterRecord) -> None:
        """Add a record of a retry topic that was not settled when the reading of events began."""
        if letter.state is not None:
            self._trace(letter.origin, letter.destination, WAITING, is_original=letter.state.replay is None)

    def add_attempt(self, value: bytes | None) -> None:
        """Add a record of the attempts log."""
        attempt = read_attempt(value)
        origin, status, destination = (
            (attempt.origin, attempt.get("status"), attempt.get("destinationId")) if attempt else (None, None, None)
        )
        if attempt is None or origin is None or not (type(status) is str and isinstance(destination, str | None)):
            self.unreadable += 1
            return
        if destination is not None:
            self._first_seen[destination] = min(attempt.at_ms, self._first_seen.get(destination, attempt.at_ms))
        if status in _RANK and self._spill.may_hold(origin.partition, origin.offset):
            self._trace(origin, destination, status, attempt.fault, is_original=attempt.get("trigger") != "replay")

    def add_dead_letter(self, letter: DeadLetterRecord) -> None:
        """Add a record of the DLQ."""
        origin = letter.original().origin
        if self._spill.may_hold(origin.partition, origin.offset):
            self._trace(origin, letter.destination, "dead_lettered", letter.fault)

    def _trace(
        self,
        origin: Origin,
        destination: str | None,
        status: str,
        fault: Fault | None = None,
        *,
        is_original: bool = True,
    ) -> None:
        if self._topic.holds(origin.topic, origin.topic_id):
            self._spill.add_trace(Trace(origin.partition, origin.offset, destination, status, fault, int(is_original)))

    def unseen_destinations(self) -> frozenset[str]:
        """Destinations without a trace of an event, and without any trace from before that event.

        Call it when all records were added, and `mark_seen` for each destination that an older record names.
        """
        return frozenset(
            delivery.destination
            for status, delivery in self.deliveries()
            if status == "too_new" and delivery.destination is not None
        )

    def mark_seen(self, destination: str) -> None:
        """Note an attempt for this destination from before the first of the events."""
        self._first_seen[destination] = -1

    @property
    def events(self) -> int:
        """Number of the events."""
        return self._spill.count

    def deliveries(self) -> Iterator[tuple[Status, TracedDelivery]]:
        """Every delivery with its status."""
        for event, traces in self._spill:
            origin = Origin(self._topic.name, event.partition, event.offset)
            found = _best(traces)
            for destination in (*found, *self._traceless(event, found)):
                best = found.get(destination, _NO_TRACE)
                status = self._judge(event, destination, best)
                # The event went to other destinations, and this one seems to be newer than the event.
                if status == "missing" and found and destination not in found and self._is_newer(destination, event):
                    status = "too_new"
                yield (
                    status,
                    TracedDelivery(
                        origin, event.customer, destination, best.last, best.fault, best.repeated, best.is_replaying
                    ),
                )

    def _traceless(self, event: SpilledEvent, found: Mapping[str | None, _Best]) -> Sequence[str | None]:
        """The expected destinations without a trace; None for an event that has neither a trace nor a destination."""
        if None in found:  # it had no destination then
            return ()
        route = () if event.vendor is None else self._directory.route(event.vendor, event.customer)
        expected = [destination.id for destination in route if destination.id not in found]
        return expected if expected or found else [None]

    def _judge(self, event: SpilledEvent, destination: str | None, best: _Best) -> Status:
        match best.last:
            case "delivered":
                return best.last
            case "dead_lettered" | "skipped":
                return "pending" if best.is_replaying else best.last
            case _:
                is_open = best.waits or self._is_open(event) or self._is_on_cursor(event, destination)
                return "pending" if is_open else "missing"

    def _is_open(self, event: SpilledEvent) -> bool:
        committed, settled = self._open.get(event.partition, (0, frozenset()))
        return event.offset >= committed and event.offset not in settled

    def _is_on_cursor(self, event: SpilledEvent, destination: str | None) -> bool:
        if event.partition in self._unreadable_cursors:
            return True
        found = self._cursors.get((event.partition, destination or ""))
        if found is None:
            return False
        state, open_offsets = found
        return event.offset in open_offsets or state.reads(event.offset)

    def _is_newer(self, destination: str | None, event: SpilledEvent) -> bool:
        first = self._first_seen.get(destination or "")
        return first is None or first > event.at_ms


@dataclass(slots=True)
class _Best:
    """All traces of one delivery, put together."""

    last: str = ""
    """The status of the best trace."""
    fault: Fault | None = None
    waits: bool = False
    is_replaying: bool = False
    """Whether a replayed copy waits: neither is the delivery lost, nor is its end known."""
    delivered: int = 0
    """How often it was confirmed, not counting replays."""

    @property
    def repeated(self) -> int:
        return max(0, self.delivered - 1)


_NO_TRACE: Final = _Best()


def _best(traces: Iterable[Trace]) -> dict[str | None, _Best]:
    """The traces put together by destination."""
    found: dict[str | None, _Best] = {}
    for trace in traces:
        best = found.setdefault(trace.destination, _Best())
        if trace.status == WAITING:
            best.waits = True
            best.is_replaying |= not trace.is_original
            continue
        if not best.last or _RANK[trace.status] > _RANK[best.last]:
            best.last, best.fault = trace.status, trace.fault
        if trace.status == "delivered":
            best.delivered += trace.is_original
    return found


@final
@dataclass
class Tally:
    """Counts of deliveries."""

    total: Counter[Status] = field(default_factory=Counter)
    by_destination: defaultdict[str, Counter[Status]] = field(default_factory=lambda: defaultdict(Counter))
    faults: Counter[Fault | None] = field(default_factory=Counter)
    repeated: int = 0
    """Deliveries that were confirmed more than once, not counting replays."""
    replaying: int = 0
    """Deliveries with a replayed copy that waits on a retry topic, delivered before or not."""

    def add(self, status: Status, delivery: TracedDelivery) -> None:
        """Count one delivery."""
        self.total[status] += 1
        self.by_destination[delivery.destination or ""][status] += 1
        self.faults[delivery.fault] += 1
        self.repeated += delivery.repeated
        self.replaying += delivery.is_replaying
