"""Check: every delivery there should have been against every trace there is of it.

The accounts are drawn up from topics alone, by nobody who delivers. What a worker still holds, or a retry topic, is
looked at first: whatever moves meanwhile then shows up further down its way, and never in between.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, final

from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.fault import Fault, fault_of
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.history.letters import Letter
from pushrail_stream.ports import Directory

Status = Literal["delivered", "dead_lettered", "skipped", "pending", "missing", "too_new"]
STATUSES: Final[tuple[Status, ...]] = ("delivered", "dead_lettered", "skipped", "pending", "missing", "too_new")
"""``too_new``: the event went elsewhere, and nothing shows that this destination was there already. Not a delivery, or
the loss of all that a new destination was sent at first: only somebody who knows since when it is there can tell."""
_RANK: Final = {"delivered": 3, "dead_lettered": 2, "skipped": 1, "retrying": 0}
"""What was delivered stays delivered, whatever a replay comes to; a replay may bring a dead letter home."""

Place = tuple[int, int]
"""Partition and offset of an event's record."""


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


@dataclass(slots=True)
class _Audited:
    customer: str
    at_ms: int
    expected: tuple[str, ...]
    found: dict[str | None, tuple[str, Fault | None]] = field(default_factory=dict)
    """By destination the status of its best trace, and of a dead letter whose fault it is."""


@final
class Check:
    """Fed with records in the order of its methods; then it says what became of each delivery."""

    def __init__(self, directory: Directory, vendor: str | None, *, customer: str | None = None) -> None:
        """``directory``: the destinations there are now; ``customer`` narrows it down to one."""
        self._directory = directory
        self._vendor = vendor
        self._customer = customer
        self._topic = ""
        self._events: dict[Place, _Audited] = {}
        self._open: dict[int, tuple[int, frozenset[int]]] = {}
        self._waiting: set[tuple[Place, str | None]] = set()
        self._first_seen: dict[str, str] = {}
        self._delivered: Counter[tuple[Place, str]] = Counter()
        self.unreadable = 0
        """Attempt records that make no sense."""

    def group_is_at(self, partition: int, committed: int, settled: Collection[int]) -> None:
        """What the workers' group has committed in a partition: everything below, and single offsets above."""
        self._open[partition] = (committed, frozenset(settled))

    def waits(self, letter: Letter) -> None:
        """A retry topic's record that is not settled yet."""
        if letter.state is not None:
            origin = letter.state.origin
            self._waiting.add(((origin.partition, origin.offset), letter.destination))

    def event(self, record: Record) -> None:
        """A record of the events topic."""
        self._topic = record.topic
        event = decode(record.value, record.headers, self._vendor)
        customer = event.customer_external_id if isinstance(event, Event) else ""
        if self._customer not in {None, customer}:
            return
        expected: tuple[str, ...] = ()
        if isinstance(event, Event):
            expected = tuple(d.id for d in self._directory.route(event.vendor, event.customer_external_id))
        self._events[record.partition, record.offset] = _Audited(customer, record.timestamp_ms, expected)

    def attempt(self, value: bytes | None) -> None:
        """A record of the attempts log."""
        try:
            said = json.loads(value or b"")
            origin, status, at = said["origin"], said["status"], said["at"]
            place = (origin["partition"], origin["offset"])
            topic, destination = origin["topic"], said.get("destinationId")
            hash((place, status))  # raises for a list or an object
        except (ValueError, KeyError, TypeError, RecursionError):
            self.unreadable += 1
            return
        if not (isinstance(at, str) and isinstance(destination, str | None)):
            self.unreadable += 1
            return
        if destination is not None and (destination not in self._first_seen or at < self._first_seen[destination]):
            self._first_seen[destination] = at
        if topic == self._topic and place in self._events and status in _RANK:
            fault = fault_of(str(said.get("reason")), str(said.get("code"))) if status == "dead_lettered" else None
            self._note(place, destination, status, fault)
            if status == "delivered" and said.get("trigger") != "replay":
                self._delivered[place, destination] += 1

    def letter(self, letter: Letter) -> None:
        """A record of the DLQ."""
        origin = letter.original().origin
        place = (origin.partition, origin.offset)
        if origin.topic == self._topic and place in self._events:
            self._note(place, letter.destination, "dead_lettered", letter.fault)

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

    def _note(self, place: Place, destination: str | None, status: str, fault: Fault | None) -> None:
        found = self._events[place].found
        known = found.get(destination)
        if known is None or _RANK[status] > _RANK[known[0]]:
            found[destination] = status, fault

    @property
    def events(self) -> int:
        """Records of the events topic that were looked at."""
        return len(self._events)

    @property
    def repeated(self) -> int:
        """Deliveries that were confirmed more than once, not counting replays."""
        return sum(count - 1 for count in self._delivered.values() if count > 1)

    def deliveries(self) -> Iterator[tuple[Status, Traced]]:
        """Every delivery: what became of it, and which it is."""
        for place, audited in self._events.items():
            origin = Origin(self._topic, *place)
            for destination, (last, fault) in audited.found.items():
                status = self._judge(place, destination, last)
                yield status, Traced(origin, audited.customer, destination, last, fault)
            for destination, status in self._traceless(place, audited):
                yield status, Traced(origin, audited.customer, destination, "")

    def _traceless(self, place: Place, audited: _Audited) -> Iterator[tuple[str | None, Status]]:
        found = audited.found
        if not found and not audited.expected:
            yield None, self._judge(place, None, "")
        if None in found:  # it was nobody's
            return
        for destination in audited.expected:
            if destination not in found:
                status = self._judge(place, destination, "")
                # One that has come since was no destination of this event, if of the others there is word.
                is_too_new = status == "missing" and found and self._is_newer(destination, audited)
                yield destination, "too_new" if is_too_new else status

    def _judge(self, place: Place, destination: str | None, last: str) -> Status:
        match last:
            case "delivered" | "dead_lettered" | "skipped":
                return last
            case _ if self._is_open(place) or (place, destination) in self._waiting:
                return "pending"
            case _:
                return "missing"

    def _is_open(self, place: Place) -> bool:
        partition, offset = place
        committed, settled = self._open.get(partition, (0, frozenset()))
        return offset >= committed and offset not in settled

    def _is_newer(self, destination: str, audited: _Audited) -> bool:
        first = self._first_seen.get(destination)
        return first is None or first > format_rfc3339(audited.at_ms)


def summarise(deliveries: Iterable[tuple[Status, Traced]]) -> tuple[Counter[Status], dict[str, Counter[Status]]]:
    """How many of each status, in all and by destination."""
    total: Counter[Status] = Counter()
    by_destination: dict[str, Counter[Status]] = {}
    for status, delivery in deliveries:
        total[status] += 1
        by_destination.setdefault(delivery.destination or "", Counter())[status] += 1
    return total, by_destination
