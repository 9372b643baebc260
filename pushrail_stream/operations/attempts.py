"""Attempt records, read back: which are meant, and how many there are of a kind."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple, final

import orjson

from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.retry import Fault, fault_of
from pushrail_stream.core.text import format_rfc3339, parse_rfc3339
from pushrail_stream.operations.topic_reader import Progress, read_topic
from pushrail_stream.settings.model import Settings


class Attempt(NamedTuple):
    """One attempt record: as it was written, and read."""

    at_ms: int
    """Epoch milliseconds."""
    text: bytes
    said: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """A field; None where it has none."""
        return self.said.get(name)

    @property
    def fault(self) -> Fault | None:
        """The fault behind a dead letter; None for any other result."""
        is_dead = self.get("status") == "dead_lettered"
        return fault_of(str(self.get("reason")), str(self.get("code"))) if is_dead else None

    @property
    def origin(self) -> Origin | None:
        """The event's record; None where the attempt does not name one."""
        match self.said.get("origin"):
            case {"topic": str(topic), "partition": int(partition), "offset": int(offset), **rest}:
                topic_id = rest.get("topicId")
                return Origin(topic, partition, offset, topic_id if isinstance(topic_id, str) else None)
            case _:
                return None


def read_attempt(value: bytes | None) -> Attempt | None:
    """None for what is no attempt record."""
    try:
        said = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    at = said.get("at") if isinstance(said, dict) else None
    at_ms = parse_rfc3339(at) if isinstance(at, str) else None
    return None if at_ms is None else Attempt(at_ms, value or b"", said)


def read_attempts(
    settings: Settings, progress: Progress, *, since_ms: int | None, starts: Mapping[int, int] | None = None
) -> Iterator[Attempt]:
    """The attempts log from a time or from offsets to its present end. Raises `OperatorError`."""
    topic, unreadable = settings.topics.attempts, 0
    for record in read_topic(settings, topic, "attempts", progress, since_ms=since_ms, starts=starts):
        attempt = read_attempt(record.value)
        if attempt is None:
            unreadable += 1
        elif since_ms is None or attempt.at_ms >= since_ms:
            yield attempt
    if unreadable:
        progress.note(f"{unreadable} records of {topic} cannot be understood")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFilter:
    """Which attempts are meant; what is None does not matter. Times are those of the attempt, ``until_ms`` excluded."""

    key: str | None = None
    origin: str | None = None
    customer: str | None = None
    destination: str | None = None
    vendor: str | None = None
    event_type: str | None = None
    status: str | None = None
    code: str | None = None
    correlation_id: str | None = None
    replay: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def matches(self, attempt: Attempt) -> bool:
        """Whether this attempt is one of them."""
        return (
            (self.since_ms is None or attempt.at_ms >= self.since_ms)
            and (self.until_ms is None or attempt.at_ms < self.until_ms)
            and (self.origin is None or str(attempt.origin) == self.origin)
            and all(getattr(self, field) in (None, attempt.get(name)) for field, name in FIELDS.items())
        )

    @property
    def names_one_event(self) -> bool:
        """Whether it can only mean a handful of records."""
        return self.key is not None or self.origin is not None or self.correlation_id is not None


FIELDS: Final = {
    "key": "idempotencyKey",
    "customer": "customerExternalId",
    "destination": "destinationId",
    "vendor": "vendor",
    "event_type": "eventType",
    "status": "status",
    "code": "code",
    "correlation_id": "correlationId",
    "replay": "replayId",
}
"""The filter's equalities, by the record's fields."""
assert {*FIELDS, "origin", "since_ms", "until_ms"} == {field.name for field in fields(AttemptFilter)}  # noqa: S101


@final
@dataclass
class Summary:
    """How many attempts there are by status, code and destination, and whose fault the dead letters are."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    destinations: Counter[str] = field(default_factory=Counter)
    oldest_ms: int | None = None
    newest_ms: int | None = None

    def add(self, attempt: Attempt) -> None:
        """Count one."""
        self.statuses[str(attempt.get("status"))] += 1
        if attempt.fault is not None:
            self.faults[attempt.fault] += 1
        if code := attempt.get("code"):
            self.codes[str(code)] += 1
        self.destinations[str(attempt.get("destinationId") or "")] += 1
        at = attempt.at_ms
        self.oldest_ms = at if self.oldest_ms is None else min(self.oldest_ms, at)
        self.newest_ms = at if self.newest_ms is None else max(self.newest_ms, at)


def newest_of(attempts: Iterable[Attempt], most: int) -> list[Attempt]:
    """The newest attempts up to a limit, oldest first."""
    found = heapq.nlargest(most, attempts, key=lambda attempt: attempt.at_ms)
    return sorted(found, key=lambda attempt: attempt.at_ms)


_USER: Final = re.compile(r"^User: \S+ is ")
"""The beginning of IAM's refusals. It repeats the role, which the destination's document has."""
_RESOURCE: Final = re.compile(r" on resource: \S+")
"""A long part of IAM's refusals. It repeats the role or the bus, which the destination's document has."""


def why_of(attempt: Attempt) -> str:
    """The reason, the code and the message of an attempt that did not deliver, as far as it has them."""
    reason, code, message = (str(attempt.get(name) or "") for name in ("reason", "code", "message"))
    message = _USER.sub("", message).removeprefix(f"{code}: ")
    return ": ".join(filter(None, (" ".join(filter(None, (reason, code))), message)))


def row_of(attempt: Attempt) -> tuple[str, ...]:
    """The attempt's cells: time, status, destination, number, event type, key, the reason, and EventBridge's id."""
    known, last = ("status", "destinationId", "attempt", "eventType", "idempotencyKey"), "eventBridgeEventId"
    cells = (*map(attempt.get, known), _RESOURCE.sub("", why_of(attempt)), attempt.get(last))
    return (format_rfc3339(attempt.at_ms), *("" if cell is None else str(cell) for cell in cells))


class Indexed(NamedTuple):
    """A record of the topic, fit for the index."""

    partition: int
    offset: int
    attempt: Attempt


def fit_for_index(record: Record) -> Indexed | None:
    """None for what is no attempt record."""
    attempt = read_attempt(record.value)
    return None if attempt is None else Indexed(record.partition, record.offset, attempt)
