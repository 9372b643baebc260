"""Deliveries: the ways of all events through the story, put together from records and arrivals.

An arrival is recognised by the event's bytes, because a bus gets nothing else. Two records with equal bytes, as a
producer writes them that repeats itself, share their arrivals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast, final

import orjson

from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.headers import BadHeader, DeliveryHeaders, decode_headers, producer_headers
from pushrail_stream.core.record import Origin
from pushrail_stream.core.signals import OwnCredentialsFailed
from tests.simulation.oracle.covers import first_covers, passes_later
from tests.simulation.oracle.documents import STALE_SECS, Documents, Reader
from tests.simulation.oracle.evidence import Call, Disturbance, Entry, Evidence, Written
from tests.simulation.oracle.lossy_logs import lossy_logs
from tests.simulation.oracle.periods import Periods
from tests.simulation.oracle.places import Places

PROMPT_SECS: Final = 30.0
"""Longest time in seconds until every worker has a new version of a document, when nothing is disturbed."""
_CATCH_UP_SECS: Final = 60.0
"""Longest time in seconds after a disturbance until every worker has every document again."""
_NEW_SECS: Final = 65.0
"""Time in seconds from a worker's first sign of life in which it follows each jump of its machine's clock."""
_STALENESS: Final = frozenset({"kafka", "log", "paused", "clock"})
"""Disturbances during which a worker may not learn of a new version."""


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
    origin: Origin | None
    """The event's position."""

    def get(self, name: str) -> Any:
        """A field; None when it is absent."""
        return self.fields.get(name)


@final
class Deliveries:
    """Indexes over the evidence. They are made once, when the story has ended."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.documents = Documents(evidence.edits, evidence.begun_at)
        self.places = Places(evidence)
        topics, vendor = evidence.settings.topics, evidence.settings.vendor
        self.events: list[EventSeen] = []
        self._event_at: dict[int, EventSeen] = {}
        self.copies: list[CopySeen] = []
        self.alien: list[tuple[Written, str]] = []
        """Records of retry topics and DLQ whose headers cannot be read, with the reason."""
        self._copy_at: dict[int, CopySeen] = {}
        self._event_of_copy: dict[int, EventSeen | None] = {}
        self.attempts: list[Said] = []
        self._event_of_said: dict[int, EventSeen | None] = {}
        self.by_value: dict[bytes, list[EventSeen]] = defaultdict(list)
        for one in evidence.written:
            record = one.record
            if record.topic == topics.events:
                seen = EventSeen(one, decode(record.value, record.headers, vendor))
                self.events.append(seen)
                self._event_at[id(one)] = seen
                self.by_value[record.value or b""].append(seen)
            elif record.topic == topics.dlq or record.topic in topics.retry:
                self._take_copy(one, is_dead=record.topic == topics.dlq)
            elif record.topic == topics.attempts and (fields := _read(record.value)) is not None:
                self.attempts.append(Said(one, fields, _origin_of(fields)))
        self._index()

    def event_in(self, written: Written) -> EventSeen:
        """The event that a record of the events topic holds."""
        return self._event_at[id(written)]

    def copy_in(self, written: Written) -> CopySeen | None:
        """The copy that a record of a retry topic or the DLQ holds; None when its headers cannot be read."""
        return self._copy_at.get(id(written))

    def event_of(self, origin: Origin, at: float, looks_right: Callable[[EventSeen], bool] = bool) -> EventSeen | None:
        """The event that a position meant at a time.

        ``looks_right`` chooses among several records; otherwise it is the newest.
        """
        found = [self._event_at[id(one)] for one in self.places.meant_by(origin) if one.at <= at]
        right = [seen for seen in found if looks_right(seen)] if len(found) > 1 else []
        return next(reversed(right or found), None)

    def is_ambiguous(self, origin: Origin) -> bool:
        """Whether a position without a topic's id has had several records, so that traces of it may be of any."""
        return self.places.is_ambiguous(origin)

    def event_of_copy(self, copy: CopySeen) -> EventSeen | None:
        """The event that this is a copy of."""
        number, value = id(copy.written), copy.written.record.value
        if number not in self._event_of_copy:
            self._event_of_copy[number] = self.event_of(
                copy.headers.origin, copy.written.at, lambda seen: seen.written.record.value == value
            )
        return self._event_of_copy[number]

    def event_of_said(self, said: Said) -> EventSeen | None:
        """The event that an attempts record is about."""
        number = id(said.written)
        if number not in self._event_of_said:
            self._event_of_said[number] = self._find_event_of(said)
        return self._event_of_said[number]

    def _find_event_of(self, said: Said) -> EventSeen | None:
        key = said.get("idempotencyKey")
        is_event = said.get("vendor") is not None

        def looks_right(seen: EventSeen) -> bool:
            event = self.sent_event(seen)
            return (event is not None and event.idempotency_key == key) if is_event else _is_undecodable(seen)

        return None if said.origin is None else self.event_of(said.origin, said.written.at, looks_right)

    def copies_of(self, seen: EventSeen, destination: str | None) -> list[CopySeen]:
        """The copies of one delivery, in the order of their writing."""
        return self._copies.get((id(seen.written), destination), [])

    def said_about(self, seen: EventSeen, destination: str | None) -> list[Said]:
        """The attempts records of one delivery."""
        return self._said.get((id(seen.written), destination), [])

    def attempts_copied(self, seen: EventSeen, destination: str | None) -> frozenset[int] | set[int]:
        """The numbers of attempts that retry copies of one delivery carry."""
        return self._attempts_copied.get((id(seen.written), destination), frozenset())

    def covered_at(self, one: Written) -> float:
        """The time of the first commit that covered a record; infinite when there is none."""
        commit = self.covered_by.get(id(one))
        return float("inf") if commit is None else commit.at

    def is_stepped_over(self, one: Written) -> bool:
        """Whether an operator's move, or an earlier blind commit, passed a record before a worker had committed it."""
        commit = self.covered_by.get(id(one))
        return commit is not None and (not commit.host or passes_later(commit, one))

    def may_lack_attempts(self, at: float, host: str | None = None) -> bool:
        """Whether the attempts log may lack records that this worker, or any, had to write at this time."""
        if host not in self._lossy_of:
            lossy = (one for one in self._lossy if host is None or one.host in {"", host})
            self._lossy_of[host] = Periods((one.since, one.until) for one in lossy)
        return at in self._lossy_of[host]

    def stale_secs(self, at: float, until: float | None = None) -> float:
        """The longest time for which a worker may have acted on an older version of a document by then."""
        is_calm = not self._stale.meet(at, at if until is None else until) and not self.evidence.has_kafka_weather
        return PROMPT_SECS if is_calm else STALE_SECS

    def reader(self, host: str, since: float, until: float) -> Reader:
        """A worker as a reader of documents in a period."""
        return Reader(self.first_seen.get(host, float("inf")), self.stale_secs(since, until))

    def had_wrong_clock(self, host: str) -> bool:
        """Whether the clock of a worker's machine was wrong when the worker began, or soon after that.

        A later jump changes nothing: the worker does not follow it before the machine has kept the new time for long.
        """
        begun_at, machine = self.first_seen.get(host, 0.0), host.rpartition("-")[0]
        return any(
            one.kind == "clock" and one.host.rpartition("-")[0] == machine
            for one in self.evidence.disturbances
            if one.at <= begun_at + _NEW_SECS and one.until >= begun_at and one.host
        )

    def destinations_of(self, seen: EventSeen) -> list[str]:
        """The destinations for which there is a copy of this event."""
        return self._copied_to.get(id(seen.written), [])

    def is_workers(self, written: Written) -> bool:
        """Whether a worker wrote this record, and not a command or the world."""
        return written.host in self.workers

    def is_overslept(self, call: Call) -> bool:
        """Whether the time of a call was over when its paused worker could read the answer.

        The read time-out ends a call, or the end of its first delivery's hold. No hold begins before its event exists.
        """
        settings = self.evidence.settings
        written = [seen.written.at for one in call.entries for seen in self.by_value.get(one.detail, ())]
        held_until = min(written, default=float("inf")) + settings.delivery.hold_secs
        cut_off_at = min(call.at + settings.eventbridge.read_timeout_secs, max(call.at, held_until))
        answered_at = call.at if call.answered_at is None else call.answered_at
        return any(
            call.at <= one.until and one.at <= answered_at and one.until >= cut_off_at
            for one in self._pauses.get(call.host, ())
        )

    def is_entry_of(self, entry: Entry, seen: EventSeen) -> bool:
        """Whether an entry of a call is this event."""
        event = self.sent_event(seen)
        return event is not None and entry.key == event.idempotency_key

    def sent_event(self, seen: EventSeen) -> Event | None:
        """The event that a worker may send for a record; None when it is no canonical event.

        Copies leave out headers whose names are not UTF-8, so the replay of such a record is a canonical event.
        """
        event, record = seen.event, seen.written.record
        if isinstance(event, Undecodable) and any(one.headers.replay for one in self.copies_in(seen)):
            event = decode(record.value, producer_headers(record.headers), self.evidence.settings.vendor)
        return event if isinstance(event, Event) else None

    def copies_in(self, seen: EventSeen) -> list[CopySeen]:
        """The copies of an event for all destinations."""
        return [copy for one in self.destinations_of(seen) for copy in self.copies_of(seen, one)]

    def arrivals_of(self, value: bytes, destination: str) -> list[Arrival]:
        """The arrivals of these bytes at the destination's bus, or at one that it shares."""
        return self.arrivals.get((value, self.documents.group(destination)), [])

    def calls_with(self, seen: EventSeen, destination: str) -> list[Call]:
        """The calls with this event to the destination's bus, or to one that it shares."""
        event = self.sent_event(seen)
        key = None if event is None else event.idempotency_key
        return self._calls_with.get((key, self.documents.group(destination)), [])

    def _take_copy(self, one: Written, *, is_dead: bool) -> None:
        headers = decode_headers(one.record.headers)
        if isinstance(headers, BadHeader):
            self.alien.append((one, f"{headers.header} {headers.problem}"))
        else:
            self._copy_at[id(one)] = copy = CopySeen(one, headers, is_dead)
            self.copies.append(copy)

    def _index(self) -> None:
        self._copies: dict[tuple[int, str | None], list[CopySeen]] = defaultdict(list)
        self._attempts_copied: dict[tuple[int, str | None], set[int]] = defaultdict(set)
        for copy in self.copies:
            if (event := self.event_of_copy(copy)) is not None:
                delivery = id(event.written), copy.headers.destination
                self._copies[delivery].append(copy)
                if not copy.is_dead:
                    self._attempts_copied[delivery].add(copy.headers.attempts)
        self._copied_to: dict[int, list[str]] = defaultdict(list)
        for event_id, destination in self._copies:
            if destination is not None:
                self._copied_to[event_id].append(destination)
        self._said: dict[tuple[int, str | None], list[Said]] = defaultdict(list)
        for said in self.attempts:
            if (event := self.event_of_said(said)) is not None:
                self._said[id(event.written), said.get("destinationId")].append(said)
        self.covered_by = {id(one): commit for commit, one in first_covers(self.evidence)}
        """By `id` of a record the first commit that covered it."""
        self._lossy = lossy_logs(self.evidence)
        self._lossy_of: dict[str | None, Periods] = {}
        stale = [one for one in self.evidence.disturbances if one.kind in _STALENESS]
        self._stale = Periods((one.at, one.until + _CATCH_UP_SECS) for one in stale)
        self._index_hosts()
        self.had_own_fault = any(call.fault == "ours" for call in self.evidence.calls) or any(
            isinstance(seen.signal, OwnCredentialsFailed) for seen in self.evidence.signals
        )
        self.clocks_jumped = any(one.kind == "clock" for one in self.evidence.disturbances)
        self._index_calls()

    def _index_hosts(self) -> None:
        self.workers = {call.host for call in self.evidence.calls} | {end.host for end in self.evidence.worker_ends}
        self.workers |= {seen.host for seen in self.evidence.signals}
        """The hosts of workers."""
        self.first_seen: dict[str, float] = {}
        """By host the time of its first record, call or signal."""
        for at, host in sorted(
            [(one.at, one.host) for one in self.evidence.written]
            + [(one.at, one.host) for one in self.evidence.calls]
            + [(one.at, one.host) for one in self.evidence.signals]
        ):
            self.first_seen.setdefault(host, at)
        self._pauses: dict[str, list[Disturbance]] = defaultdict(list)
        for one in self.evidence.disturbances:
            if one.kind == "paused":
                self._pauses[one.host].append(one)

    def _index_calls(self) -> None:
        self.arrivals: dict[tuple[bytes, str], list[Arrival]] = defaultdict(list)
        self.calls_of: dict[str, list[Call]] = defaultdict(list)
        """By group: the calls to its buses, and those that signed in to its roles."""
        self.refusals: dict[str, list[float]] = defaultdict(list)
        """By group: the times at which AWS refused a call for the customer's sake."""
        self._calls_with: dict[tuple[str | None, str], list[Call]] = defaultdict(list)
        """By key of an event and group: the calls with it."""
        self.garbled_calls_of: dict[str | None, list[Call]] = defaultdict(list)
        """By the id that the bus gave an entry: the calls whose request id may be garbled too."""
        self.strays: list[tuple[Call, Entry]] = []
        """Entries that a bus of no document took."""
        for call in self.evidence.calls:
            for group in self.documents.groups_behind(call.target):
                self.calls_of[group].append(call)
                for key in dict.fromkeys(entry.key for entry in call.entries):
                    self._calls_with[key, group].append(call)
                if "customer" in {call.fault, *(entry.fault for entry in call.entries)}:
                    self.refusals[group].append(call.at)
            for entry in call.entries:
                if entry.event_id is not None:
                    self._take_arrival(call, entry)

    def _take_arrival(self, call: Call, entry: Entry) -> None:
        if call.is_garbled:
            self.garbled_calls_of[entry.event_id].append(call)
        group = self.documents.group_of_bus(call.target)
        if group is None:
            self.strays.append((call, entry))
            return
        self.arrivals[entry.detail, group].append(Arrival(call.at, call, entry, group))


def _is_undecodable(seen: EventSeen) -> bool:
    return isinstance(seen.event, Undecodable)


def _origin_of(fields: dict[str, Any]) -> Origin | None:
    match fields.get("origin"):
        case {"topic": str(topic), "partition": int(partition), "offset": int(offset), **more}:
            return Origin(topic, partition, offset, cast("str | None", more.get("topicId")))
        case _:
            return None


def _read(value: bytes | None) -> dict[str, Any] | None:
    try:
        fields = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None
