"""Selects the deliveries of a replay: dead letters or past events, each for one destination and due now."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, final

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Decode, Event, decode
from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.identity import Identity, identify
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.core.retry import MAX_REPLAYS, Fault
from pushrail_stream.core.skips import Mark, parse_mark
from pushrail_stream.operations.dead_letters import DeadLetterFilter, DeadLetterRecord
from pushrail_stream.operations.named_events import NamedEvents
from pushrail_stream.ports.pipeline import Directory

HOPELESS: Final = frozenset({"rejected", "oversize"})
"""Reasons for which a delivery can only fail again: the same entry is refused again, and fits into no call."""


class ReplayCopy(NamedTuple):
    """A record for the first retry topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def copy_of(original: Record, destination_id: str, replay_id: str, count: int, now_ms: int) -> ReplayCopy:
    """The delivery as if it had never been tried: value, key and the producer's headers are untouched."""
    state = DeliveryHeaders(
        origin=original.origin,
        attempts=0,
        reason="held",
        failed_at_ms=now_ms,
        destination=destination_id,
        not_before_ms=now_ms,
        replay=replay_id,
        replay_count=count,
    )
    return ReplayCopy(original.key, original.value, encode_headers(state, original.headers))


class Chosen(NamedTuple):
    """One delivery that is to be replayed."""

    destination_id: str
    number: int
    """Which replay of this delivery it is, from 1."""
    mark: Mark
    """Marks the delivery as replayed; written together with its copy."""


@final
@dataclass
class DeadLetterSelection:
    """Chooses dead letters for one replay, and counts the others by the reason why they are left out.

    A mark belongs to the delivery, not to its dead letter. The DLQ may hold several dead letters of one delivery: a
    worker died between writing it and committing, or the delivery failed again in a replay.
    """

    wanted: DeadLetterFilter
    directory: Directory
    marks: MutableMapping[str, bytes]
    """Marks of earlier replays, by delivery. The chosen deliveries are added."""
    replay_id: str
    again: bool = False
    max_count: int = MAX_REPLAYS
    has_refused: bool = False
    """Whether documents are refused: a destination that is not found may be one of them."""
    chosen: Counter[tuple[str, str, Fault]] = field(default_factory=Counter)
    """By destination id, reason and fault."""
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, letter: DeadLetterRecord, now_ms: int) -> list[Chosen]:
        """The deliveries of this dead letter to replay; none when it is left out."""
        if letter.destination is not None:
            return self._choose(letter, [letter.destination], now_ms) if self.wanted.matches(letter) else []
        # It had no destination when it died: its customer's destinations of today are looked up.
        if not replace(self.wanted, destination=None).matches(letter):
            return []
        route = self._route(letter) if letter.state is not None else "no dead letter of ours (foreign)"
        if not isinstance(route, str):
            wanted = [destination_id for destination_id in route if self.wanted.destination in {None, destination_id}]
            return self._choose(letter, wanted, now_ms)
        if self.wanted.destination is None:
            self.left_out[route] += 1
        return []

    def _route(self, letter: DeadLetterRecord) -> list[str] | str:
        """Ids of the destinations that want it today, or why there is none."""
        event = letter.event
        if event is None:
            return "cannot be decoded"
        route = self.directory.route(event.vendor, event.customer_external_id)
        if not route:
            return "its customer has no destination"
        return [d.id for d in route if d.wants(event)] or "filtered by its destinations"

    def _choose(self, letter: DeadLetterRecord, destination_ids: list[str], now_ms: int) -> list[Chosen]:
        chosen = []
        for destination_id in destination_ids:
            key = replay_mark_key(letter, destination_id)
            stored = self.marks.get(key)
            before = None if stored is None else read_replay_mark(stored)
            count = max(letter.replays, before.times if before else 0)
            why_not = self._why_not(letter, destination_id, before, count)
            if why_not is not None:
                self.left_out[why_not] += 1
                continue
            mark = replay_mark(key, ReplayMark(self.replay_id, now_ms, count + 1))
            self.marks[key] = mark.value
            self.chosen[destination_id, letter.reason, letter.fault] += 1
            chosen.append(Chosen(destination_id, count + 1, mark))
        return chosen

    def _why_not(
        self, letter: DeadLetterRecord, destination_id: str, before: ReplayMark | None, count: int
    ) -> str | None:
        destination = self.directory.get(destination_id)
        # One without a destination was refused by none: it goes to those that its customer has today.
        if letter.destination is not None and letter.reason in HOPELESS - self.wanted.reasons:
            return f"{letter.reason}, which can only fail again (--reason {letter.reason} replays it)"
        if before is not None and before.replay == self.replay_id:
            return "another letter of a delivery that is replayed"
        if not self.again and before is not None and before.covers(letter):
            return "replayed before (--again repeats it)"
        if count >= self.max_count:
            return f"replayed {self.max_count} times or more (--max-count)"
        if destination is None:
            return _UNKNOWN if self.has_refused else "its destination was deleted"
        return f"its destination is {destination.closed_as}" if destination.closed_as else None


_UNKNOWN: Final = "its destination was deleted, or its document is refused (`destinations validate`)"


class ReplayMark(NamedTuple):
    """The mark of a replayed delivery."""

    replay: str
    at_ms: int
    times: int
    """How often, so far."""

    def covers(self, letter: DeadLetterRecord) -> bool:
        """Whether this letter was there already: it neither failed later nor died in that replay."""
        return letter.failed_at_ms <= self.at_ms and letter.replays < self.times


def replay_mark_key(letter: DeadLetterRecord, destination_id: str) -> str:
    """The key of the delivery's mark. It tells events of a topic from those of an earlier topic of the same name."""
    topic_id = letter.origin.topic_id
    return f"{letter.origin} {destination_id}" if topic_id is None else f"{letter.origin} {topic_id} {destination_id}"


def replay_mark(key: str, mark: ReplayMark) -> Mark:
    """The mark as a record."""
    return Mark(key, json.dumps({"replay": mark.replay, "at": mark.at_ms, "count": mark.times}).encode())


def read_replay_mark(value: bytes) -> ReplayMark | None:
    """The mark in a record; None for a record that is no mark: then the delivery counts as never replayed."""
    match parse_mark(value):
        case {"replay": str(replay), "at": int(at_ms), "count": int(times)}:
            return ReplayMark(replay, at_ms, times)
        case _:
            return None


ANY_TIME: Final = (-1, 2**63 - 1)
"""The first and the last moment that a Kafka timestamp can name; -1 is a record without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which past events are meant. Times are Kafka's, epoch milliseconds, ``until_ms`` excluded."""

    since_ms: int
    until_ms: int
    customer: str | None = None
    destination: str | None = None
    event_type: str | None = None
    delivered_since_ms: int | None = None
    """Only events that the delivery log shows as delivered to the destination by an attempt made then or later."""
    delivered_until_ms: int | None = None
    """Only by an attempt made before then. None exactly where ``delivered_since_ms`` is."""
    paused: str | None = None
    """Only events that these offsets of the delivery log show as skipped while the destination was paused, as text."""

    def matches(self, event: Event, at_ms: int) -> bool:
        """Whether this event is one of them; the destination is a matter of its route."""
        return (
            self.covers(at_ms)
            and self.customer in {None, event.customer_external_id}
            and self.event_type in {None, event.event_type}
        )

    def covers(self, at_ms: int) -> bool:
        """Whether this is one of the moments."""
        return self.since_ms <= at_ms < self.until_ms


@final
@dataclass
class EventSelection:
    """Chooses past events for one replay, one delivery for each destination that wants it."""

    wanted: EventFilter
    directory: Directory
    vendor: str | None
    decode: Decode = field(default=decode, kw_only=True)
    named: NamedEvents | None = None
    """The only events that are meant; None for no such limit."""
    chosen: Counter[str] = field(default_factory=Counter)
    """By destination id."""
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def is_complete(self) -> bool:
        """Whether no other event can be meant."""
        return self.named is not None and not self.named

    def finish(self) -> None:
        """The topic was read to its end: events that were not found are no longer there."""
        if self.named:
            self.left_out["no longer in the topic"] += len(self.named)

    def take(self, record: Record) -> Iterator[str]:
        """Ids of the destinations it goes to."""
        if self.named is not None and not self.named.find(record):
            return
        event = self.decode(record.value, record.headers, self.vendor)
        if not isinstance(event, Event):
            if self.wanted.covers(record.timestamp_ms) and self._names(identify(record.value)):
                self.left_out["cannot be decoded"] += 1
            return
        if not self.wanted.matches(event, record.timestamp_ms):
            return
        route = self.directory.route(event.vendor, event.customer_external_id)
        if not route and self.wanted.destination is None:
            self.left_out["its customer has no destination"] += 1
        for destination in route:
            if self.wanted.destination in {None, destination.id} and self._wants(destination, event):
                self.chosen[destination.id] += 1
                yield destination.id

    def _names(self, identity: Identity) -> bool:
        """Whether the filter asks for an event of which only this can be read."""
        wanted = self.wanted
        target = None if wanted.destination is None else self.directory.get(wanted.destination)
        customers = {wanted.customer, target.customer_external_id if target else None} - {None}
        return customers <= {identity.customer_external_id} and wanted.event_type in {None, identity.event_type}

    def _wants(self, destination: Destination, event: Event) -> bool:
        if destination.closed_as is not None:
            self.left_out[f"its destination is {destination.closed_as}"] += 1
            return False
        if not destination.wants(event):
            self.left_out["filtered by its destination"] += 1
            return False
        return True


Spans = Mapping[int, tuple[int, int]]
"""By partition an offset, and the offset below which it ends."""


def spans_text(spans: Spans) -> str:
    """Spans as the text of `EventFilter.paused`."""
    return ",".join(f"{number}={first}-{end}" for number, (first, end) in sorted(spans.items()))


def read_spans(text: str) -> Spans:
    """The spans in a text of `spans_text`; none in any other text."""
    found = re.findall(r"(\d+)=(\d+)-(\d+)(?:,|\Z)", text, re.ASCII)
    return {int(number): (int(first), int(end)) for number, first, end in found}


class ReplayProgress(NamedTuple):
    """How far a replay of events has come."""

    wanted: EventFilter
    offsets: Mapping[int, int]
    """By partition the next offset to look at."""
    topic_id: str | None = None
    """The id of the topic that the offsets belong to; None where the broker does not tell ids."""


def progress_key(replay_id: str) -> str:
    """Key of a replay's progress."""
    return f"events:{replay_id}"


def progress_mark(replay_id: str, progress: ReplayProgress) -> Mark:
    """The mark of a replay's progress."""
    wanted = {name: getattr(progress.wanted, name) for name in EventFilter.__slots__}
    offsets = {str(number): offset for number, offset in progress.offsets.items()}
    value = {"filter": wanted, "offsets": offsets, "topicId": progress.topic_id}
    return Mark(progress_key(replay_id), json.dumps(value).encode())


def read_progress(value: bytes) -> ReplayProgress | None:
    """The progress in a record; None for a record that is none."""
    match parse_mark(value):
        case {
            "filter": {"since_ms": int(), "until_ms": int()} as wanted, "offsets": dict(offsets),
            "topicId": str() | None as topic_id,
        } if all(_is_fit(name, wanted.get(name)) for name in EventFilter.__slots__):  # fmt: skip
            names = EventFilter.__slots__
            try:
                read = {int(number): int(offset) for number, offset in offsets.items()}
            except (ValueError, TypeError, OverflowError):
                return None
            return ReplayProgress(
                EventFilter(**{name: wanted[name] for name in names if name in wanted}), read, topic_id
            )
        case _:
            return None


def _is_fit(name: str, value: object) -> bool:
    """Whether a value in a record can be that field of `EventFilter`."""
    first, last = ANY_TIME
    if name.endswith("_ms"):
        return value is None or (isinstance(value, int) and first <= value <= last)
    return isinstance(value, str | None)
