"""Replay: dead letters or past events as deliveries that are due now, each to its one destination."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.history.letters import Letter, LetterFilter
from pushrail_stream.ports import Directory

MAX_REPLAYS: Final = 3
"""A letter that has died so often in replays is left alone unless somebody raises the limit."""


class ReplayCopy(NamedTuple):
    """A record for the first retry topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class Mark(NamedTuple):
    """A record for the topic of replays: what has been replayed."""

    key: str
    value: bytes


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


@final
@dataclass
class LetterChoice:
    """Chooses dead letters for one replay, and counts what is left out and why."""

    wanted: LetterFilter
    directory: Directory
    marks: Mapping[str, bytes]
    """What has been replayed before, by position."""
    again: bool = False
    max_count: int = MAX_REPLAYS
    chosen: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By destination id and reason."""
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, letter: Letter) -> str | None:
        """The destination it goes to; None when it stays where it is."""
        if not self.wanted.matches(letter):
            return None
        destination_id = letter.destination
        if destination_id is None:
            self.left_out["no destination: it could not be decoded"] += 1
            return None
        why = self._why_not(letter, destination_id)
        if why is not None:
            self.left_out[why] += 1
            return None
        self.chosen[destination_id, letter.reason] += 1
        return destination_id

    def _why_not(self, letter: Letter, destination_id: str) -> str | None:
        destination = self.directory.get(destination_id)
        if not self.again and str(letter.position) in self.marks:
            return "replayed before (--again repeats it)"
        if letter.replays >= self.max_count:
            return f"died in {self.max_count} replays or more (--max-count)"
        if destination is None:
            return "its destination was deleted"
        return None if destination.enabled else "its destination is disabled"


def letter_mark(letter: Letter, replay_id: str, now_ms: int) -> Mark:
    """That this letter has been replayed."""
    value = {"replay": replay_id, "at": now_ms, "count": letter.replays + 1}
    return Mark(str(letter.position), json.dumps(value).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which past events are meant. Times are Kafka's, epoch milliseconds, ``until_ms`` excluded."""

    since_ms: int
    until_ms: int
    customer: str | None = None
    destination: str | None = None
    event_type: str | None = None

    def matches(self, event: Event, at_ms: int) -> bool:
        """Whether this event is one of them; the destination is a matter of its route."""
        return (
            self.since_ms <= at_ms < self.until_ms
            and self.customer in {None, event.customer_external_id}
            and self.event_type in {None, event.event_type}
        )


@final
@dataclass
class EventChoice:
    """Chooses past events for one replay, one delivery for each destination that wants it."""

    wanted: EventFilter
    directory: Directory
    vendor: str | None
    chosen: Counter[str] = field(default_factory=Counter)
    """By destination id."""
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, record: Record) -> Iterator[str]:
        """Ids of the destinations it goes to."""
        event = decode(record.value, record.headers, self.vendor)
        if not isinstance(event, Event):
            self.left_out["not decodable"] += self.wanted.since_ms <= record.timestamp_ms < self.wanted.until_ms
            return
        if not self.wanted.matches(event, record.timestamp_ms):
            return
        route = self.directory.route(event.vendor, event.customer_external_id)
        if not route:
            self.left_out["without a destination"] += 1
        for destination in route:
            if self.wanted.destination not in {None, destination.id}:
                continue
            if not destination.enabled:
                self.left_out["its destination is disabled"] += 1
            elif not destination.wants(event.event_type):
                self.left_out["filtered by its destination"] += 1
            else:
                self.chosen[destination.id] += 1
                yield destination.id


class Progress(NamedTuple):
    """How far a replay of events has come."""

    wanted: EventFilter
    offsets: Mapping[int, int]
    """By partition the next offset to look at."""


def progress_key(replay_id: str) -> str:
    """Key of a replay's progress."""
    return f"events:{replay_id}"


def progress_mark(replay_id: str, progress: Progress) -> Mark:
    """That a replay of events has come so far."""
    wanted = {name: getattr(progress.wanted, name) for name in EventFilter.__slots__}
    value = {"filter": wanted, "offsets": {str(n): offset for n, offset in progress.offsets.items()}}
    return Mark(progress_key(replay_id), json.dumps(value).encode())


def read_progress(value: bytes) -> Progress:
    """What `progress_mark` wrote."""
    stored = json.loads(value)
    return Progress(EventFilter(**stored["filter"]), {int(n): offset for n, offset in stored["offsets"].items()})
