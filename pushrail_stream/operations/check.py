"""Check: every delivery there should have been against every trace there is of it.

The accounts are drawn up from topics alone, by nobody who delivers. What a worker still holds, or a retry topic, is
looked at first: whatever moves meanwhile then shows up further down its way, and never in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, final

import orjson

from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.fault import Fault, fault_of
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.dead_letters import DeadLetterRecord
from pushrail_stream.operations.spill import Spill, SpilledEvent, Trace
from pushrail_stream.ports.pipeline import Directory

Status = Literal["delivered", "dead_lettered", "skipped", "pending", "missing", "too_new"]
STATUSES: Final[tuple[Status, ...]] = ("delivered", "dead_lettered", "skipped", "pending", "missing", "too_new")
"""``too_new``: the event went elsewhere, and nothing shows that this destination was there already. Not a delivery, or
the loss of all that a new destination was sent at first: only somebody who knows since when it is there can tell."""
_RANK: Final = {"delivered": 3, "dead_lettered": 2, "skipped": 1, "retrying": 0}
"""What was delivered stays delivered, whatever a replay comes to; a replay may bring a dead letter home."""

WAITING: Final = "waiting"
"""The status of a trace on a retry topic."""


class Traced(NamedTuple):
    """A delivery, and the last that is known of it."""

    origin: Origin
    customer: str
    destination: str | None
    """None: of the event as a whole."""
    last: str
    """A status of the attempts log; empty when there is no trace."""
    fault: Fault | None = None
    """Of a dead letter."""
    repeated: int = 0
    """Confirmations after the first, not counting replays."""


class Topic(NamedTuple):
    """The topic of events."""

    name: str
    id: str | None = None
    """Kafka's id of the topic; None where the broker does not tell ids."""

    def holds(self, name: str, topic_id: str | None) -> bool:
        """Whether an origin lies in this topic, and not in one of the same name that was deleted."""
        return name == self.name and (topic_id is None or self.id is None or topic_id == self.id)


@final
class Check:
    """Fed with records in the order of its methods; then it says what became of each delivery."""

    def __init__(
        self, spill: Spill, topic: Topic, directory: Directory, vendor: str | None, *, customer: str | None = None
    ) -> None:
        """``directory``: the destinations there are now; ``customer`` narrows it down to one."""
        self._spill = spill
        self._topic = topic
        self._directory = directory
        self._vendor = vendor
        self._customer = customer
        self._open: dict[int, tuple[int, frozenset[int]]] = {}
        self._first_seen: dict[str, str] = {}
        self.unreadable = 0
        """Attempt records that make no sense."""

    def group_is_at(self, partition: int, committed: int, settled: Collection[int]) -> None:
        """What the workers' group has committed in a partition: everything below, and single offsets above."""
        self._open[partition] = (committed, frozenset(settled))

    def event(self, record: Record) -> None:
        """A record of the events topic."""
        event = decode(record.value, record.headers, self._vendor)
        vendor, customer = (event.vendor, event.customer_external_id) if isinstance(event, Event) else (None, "")
        if self._customer in {None, customer}:
            at = record.timestamp_ms
            self._spill.add_event(SpilledEvent(record.partition, record.offset, vendor, customer, at))

    def waits(self, letter: DeadLetterRecord) -> None:
        """A retry topic's record that was not settled yet before the events were read."""
        if letter.state is not None:
            self._trace(letter.state.origin, letter.destination, WAITING)

    def attempt(self, value: bytes | None) -> None:
        """A record of the attempts log."""
        try:
            said = orjson.loads(value or b"")
            origin, status, at, destination = said["origin"], said["status"], said["at"], said.get("destinationId")
            topic_id = origin.get("topicId")
            place = Origin(origin["topic"], origin["partition"], origin["offset"], topic_id)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            self.unreadable += 1
            return
        are_texts = all(type(text) is str for text in (status, at, place.topic))
        are_numbers = type(place.partition) is type(place.offset) is int
        if not (are_texts and are_numbers and isinstance(destination, str | None)):
            self.unreadable += 1
            return
        if destination is not None and (destination not in self._first_seen or at < self._first_seen[destination]):
            self._first_seen[destination] = at
        if status in _RANK and self._spill.may_hold(place.partition, place.offset):
            fault = fault_of(str(said.get("reason")), str(said.get("code"))) if status == "dead_lettered" else None
            self._trace(place, destination, status, fault, is_original=said.get("trigger") != "replay")

    def letter(self, letter: DeadLetterRecord) -> None:
        """A record of the DLQ."""
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

    def strangers(self) -> frozenset[str]:
        """Destinations that were sent nothing of an event, and of which nothing shows that they were there by then.

        To be called when all that is above has been fed; whoever is found to have been there before is `was_there`.
        """
        return frozenset(
            delivery.destination
            for status, delivery in self.deliveries()
            if status == "too_new" and delivery.destination is not None
        )

    def was_there(self, destination: str) -> None:
        """There is an attempt record of this destination from before the first of the events."""
        self._first_seen[destination] = ""

    @property
    def events(self) -> int:
        """Records of the events topic that were looked at."""
        return self._spill.count

    def deliveries(self) -> Iterator[tuple[Status, Traced]]:
        """Every delivery: what became of it, and which it is."""
        for event, traces in self._spill:
            origin = Origin(self._topic.name, event.partition, event.offset)
            found = _best(traces)
            for destination, best in found.items():
                status = self._judge(event, best)
                yield status, Traced(origin, event.customer, destination, best.last, best.fault, best.repeated)
            for destination, status in self._traceless(event, found):
                yield status, Traced(origin, event.customer, destination, "")

    def _traceless(self, event: SpilledEvent, found: Mapping[str | None, _Best]) -> Iterator[tuple[str | None, Status]]:
        expected: tuple[str, ...] = ()
        if event.vendor is not None:
            expected = tuple(d.id for d in self._directory.route(event.vendor, event.customer))
        if not found and not expected:
            yield None, self._judge(event, None)
        if None in found:  # it was nobody's
            return
        for destination in expected:
            if destination not in found:
                status = self._judge(event, None)
                # One that has come since was no destination of this event, if of the others there is word.
                is_too_new = status == "missing" and found and self._is_newer(destination, event)
                yield destination, "too_new" if is_too_new else status

    def _judge(self, event: SpilledEvent, best: _Best | None) -> Status:
        last = "" if best is None else best.last
        match last:
            case "delivered" | "dead_lettered" | "skipped":
                return last
            case _ if self._is_open(event) or (best is not None and best.waits):
                return "pending"
            case _:
                return "missing"

    def _is_open(self, event: SpilledEvent) -> bool:
        committed, settled = self._open.get(event.partition, (0, frozenset()))
        return event.offset >= committed and event.offset not in settled

    def _is_newer(self, destination: str, event: SpilledEvent) -> bool:
        first = self._first_seen.get(destination)
        return first is None or first > format_rfc3339(event.at_ms)


@dataclass(slots=True)
class _Best:
    """All traces of one delivery, put together."""

    last: str = ""
    """The status of the best trace."""
    fault: Fault | None = None
    waits: bool = False
    delivered: int = 0
    """How often it was confirmed, not counting replays."""

    @property
    def repeated(self) -> int:
        return max(0, self.delivered - 1)


def _best(traces: Iterable[Trace]) -> dict[str | None, _Best]:
    """The traces put together by destination."""
    found: dict[str | None, _Best] = {}
    for trace in traces:
        best = found.setdefault(trace.destination, _Best())
        if trace.status == WAITING:
            best.waits = True
            continue
        if not best.last or _RANK[trace.status] > _RANK[best.last]:
            best.last, best.fault = trace.status, trace.fault
        if trace.status == "delivered":
            best.delivered += trace.is_original
    return found


@final
class Tally:
    """Counts of deliveries."""

    def __init__(self) -> None:
        self.total: Counter[Status] = Counter()
        self.by_destination: dict[str, Counter[Status]] = {}
        self.faults: Counter[Fault | None] = Counter()
        self.repeated = 0
        """Deliveries that were confirmed more than once, not counting replays."""

    def add(self, status: Status, delivery: Traced) -> None:
        """Count one delivery."""
        self.total[status] += 1
        self.by_destination.setdefault(delivery.destination or "", Counter())[status] += 1
        self.faults[delivery.fault] += 1
        self.repeated += delivery.repeated
