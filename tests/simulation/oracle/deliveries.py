"""Deliveries: the ways of all events through the story, put together from records and arrivals.

An arrival is recognised by the event's bytes, because a bus gets nothing else. Two records with equal bytes, as a
producer writes them that repeats itself, share their arrivals.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple, cast, final

import orjson

from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.headers import BadHeader, DeliveryHeaders, decode_headers
from pushrail_stream.core.record import Origin
from tests.simulation.oracle.covers import first_covers
from tests.simulation.oracle.documents import Documents
from tests.simulation.oracle.evidence import Call, Entry, Evidence, Written


class EventSeen(NamedTuple):
    """A record of the events topic."""

    written: Written
    event: Event | Undecodable

    @property
    def owner(self) -> tuple[str, str] | None:
        """Vendor and customer; None of a record that cannot be decoded."""
        return None if isinstance(self.event, Undecodable) else (self.event.vendor, self.event.customer_external_id)


class CopySeen(NamedTuple):
    """A record of a retry topic or of the DLQ that says whose copy it is."""

    written: Written
    headers: DeliveryHeaders
    is_dead: bool


class Arrival(NamedTuple):
    """An entry that a bus took."""

    at: float
    call: Call
    entry: Entry
    group: str


class Said(NamedTuple):
    """A record of the attempts log."""

    written: Written
    fields: dict[str, Any]

    def get(self, name: str) -> Any:
        """A field; None when it is absent."""
        return self.fields.get(name)

    @property
    def origin(self) -> Origin | None:
        """The event's position."""
        match self.fields.get("origin"):
            case {"topic": str(topic), "partition": int(partition), "offset": int(offset), **more}:
                return Origin(topic, partition, offset, cast("str | None", more.get("topicId")))
            case _:
                return None


@final
class Deliveries:
    """Indexes over the evidence. They are made once, when the story has ended."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.documents = Documents(evidence.edits)
        topics, vendor = evidence.settings.topics, evidence.settings.vendor
        self.events: dict[Origin, EventSeen] = {}
        self.copies: list[CopySeen] = []
        self.alien: list[tuple[Written, str]] = []
        """Records of retry topics and DLQ whose headers cannot be read, with the reason."""
        self.copy_at: dict[Origin, CopySeen] = {}
        """The same by their own positions."""
        self.attempts: list[Said] = []
        self.by_value: dict[bytes, list[EventSeen]] = defaultdict(list)
        for one in evidence.written:
            record = one.record
            if record.topic == topics.events:
                seen = EventSeen(one, decode(record.value, record.headers, vendor))
                self.events[one.origin] = seen
                self.by_value[record.value or b""].append(seen)
            elif record.topic == topics.dlq or record.topic in topics.retry:
                self._take_copy(one, is_dead=record.topic == topics.dlq)
            elif record.topic == topics.attempts and (fields := _read(record.value)) is not None:
                self.attempts.append(Said(one, fields))
        self._index()

    def event_of(self, origin: Origin, at: float) -> EventSeen | None:
        """The event at a position. A position that names no topic's id is of the newest topic before that time."""
        if origin.topic_id is not None and (seen := self.events.get(origin)) is not None:
            return seen
        found = [seen for seen in self._at_place.get(origin[:3], ()) if seen.written.at <= at]
        return found[-1] if found else None

    def copies_of(self, seen: EventSeen, destination: str | None) -> list[CopySeen]:
        """The copies of one delivery, in the order of their writing."""
        return self._copies.get((seen.written.origin, destination), [])

    def said_about(self, seen: EventSeen, destination: str | None) -> list[Said]:
        """The attempts records of one delivery."""
        return self._said.get((seen.written.origin, destination), [])

    def arrivals_of(self, value: bytes, destination: str) -> list[Arrival]:
        """The arrivals of these bytes at the destination's bus, or at one that it shares."""
        return self.arrivals.get((value, self.documents.group(destination)), [])

    def _take_copy(self, one: Written, *, is_dead: bool) -> None:
        headers = decode_headers(one.record.headers)
        if isinstance(headers, BadHeader):
            self.alien.append((one, f"{headers.header} {headers.problem}"))
        else:
            self.copy_at[one.origin] = copy = CopySeen(one, headers, is_dead)
            self.copies.append(copy)

    def _index(self) -> None:
        self._at_place: dict[Any, list[EventSeen]] = defaultdict(list)
        for origin, seen in self.events.items():
            self._at_place[origin[:3]].append(seen)
        self._copies: dict[tuple[Origin, str | None], list[CopySeen]] = defaultdict(list)
        for copy in self.copies:
            if (event := self.event_of(copy.headers.origin, copy.written.at)) is not None:
                self._copies[event.written.origin, copy.headers.destination].append(copy)
        self._said: dict[tuple[Origin, str | None], list[Said]] = defaultdict(list)
        for said in self.attempts:
            if said.origin is not None and (event := self.event_of(said.origin, said.written.at)) is not None:
                self._said[event.written.origin, said.get("destinationId")].append(said)
        self.may_lack_attempts = _may_lack_attempts(self.evidence)
        """Whether the attempts log may lack records: a worker was killed or failed, or Kafka was in trouble."""
        self.covered_at = {id(one): commit.at for commit, one in first_covers(self.evidence)}
        """By `id` of a record the time of the first commit that covered it."""
        self.clocks_jumped = any(one.kind == "clock" for one in self.evidence.disturbances)
        self._index_calls()

    def _index_calls(self) -> None:
        self.arrivals: dict[tuple[bytes, str], list[Arrival]] = defaultdict(list)
        self.calls_of: dict[str, list[Call]] = defaultdict(list)
        """By group: the calls to its buses, and those that signed in to its roles."""
        self.refusals: dict[str, list[float]] = defaultdict(list)
        """By group: the times at which AWS refused a call for the customer's sake."""
        self.strays: list[tuple[Call, Entry]] = []
        """Entries that a bus of no document took."""
        for call in self.evidence.calls:
            for group in self.documents.groups_behind(call.target):
                self.calls_of[group].append(call)
                if "customer" in {call.fault, *(entry.fault for entry in call.entries)}:
                    self.refusals[group].append(call.at)
            of_bus = self.documents.group_of_bus(call.target)
            for entry in call.entries:
                if entry.event_id is not None and of_bus is None:
                    self.strays.append((call, entry))
                elif entry.event_id is not None and of_bus is not None:
                    self.arrivals[entry.detail, of_bus].append(Arrival(call.at, call, entry, of_bus))


def _may_lack_attempts(evidence: Evidence) -> bool:
    return (
        any(end.how != "stopped" for end in evidence.worker_ends)
        or any(one.kind in {"kafka", "log", "killed"} for one in evidence.disturbances)
        or any((end.ledger or {}).get("attemptsLost", 0) > 0 for end in evidence.worker_ends)
    )


def _read(value: bytes | None) -> dict[str, Any] | None:
    try:
        fields = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None
