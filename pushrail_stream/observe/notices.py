"""Notices: changes of state that people or other programs should hear of, as CloudEvents (CONTRACTS.md, "Notices").

A notice is written once, when a state begins or ends, by each worker that sees it. The log of notices never gates a
delivery: when it cannot be written, the loss is counted and told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple, Protocol, final
from urllib.parse import quote

import orjson

from pushrail_stream.core.bus_status import Swallowed
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.record import Headers
from pushrail_stream.core.signals import (
    BusFound,
    BusMissing,
    OwnCredentialsFailed,
    OwnCredentialsFound,
    Resumed,
    Signal,
    Suspended,
)
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.pipeline.stats import BacklogStats

HEADERS: Final[Headers] = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
"""Kafka's header of a CloudEvent in structured mode (Kafka Protocol Binding for CloudEvents 1.0.2, 3.3)."""
GROWING_SECS: Final = 300.0
"""A backlog that is larger than this number of seconds ago grows: a burst has mostly been caught up by then."""


class Expiring(NamedTuple):
    """Dead letters that Kafka will soon remove."""

    topic: str
    letters: int
    """Records that are that old, replayed ones included."""
    until_ms: int
    """All of them may be removed by then; epoch milliseconds."""


class Append(Protocol):
    """Appends records to the topic."""

    def __call__(self, key: bytes, *values: bytes) -> None:
        """Append a record of this key for each of the values. It never waits and never raises."""


@dataclass(slots=True)
class _Backlog:
    sizes: deque[tuple[int, int]] = field(default_factory=deque)
    """Times, in epoch milliseconds, and the events then; the oldest first."""
    is_told: bool = False


@final
class Notices:
    """Writes notices about signals, and about backlogs and dead letters that it is shown."""

    def __init__(
        self, append: Append, group: str, worker: str, now_ms: Callable[[], int],
        find: Callable[[str], Destination | None],
    ) -> None:  # fmt: skip
        """``group``: the consumer group of the events. ``find``: the destination of an id."""
        self._append = append
        self._source = f"/pushrail-stream/{quote(group, safe='')}"
        self._worker = worker
        self._now_ms = now_ms
        self._find = find
        self._numbers = count()
        self._are_credentials_failing = False
        self._backlogs: dict[str, _Backlog] = {}
        self._expiry_day = ""

    def __call__(self, signal: Signal) -> None:
        match signal:
            case Suspended(destination, code, message, probe_in_secs, first) if first:
                details = {"code": code, "message": message, "probeInSecs": round(probe_in_secs)}
                self._of_destination("destination.suspended", destination, details)
            case Resumed(destination, secs, why):
                details = {"suspendedSecs": round(secs), "why": why}
                self._of_destination("destination.resumed", destination, details)
            case BusMissing(destination, bus, swallowed):
                seen = None if bus.last_seen_ms is None else format_rfc3339(bus.last_seen_ms)
                details = {"busArn": destination.bus.arn, "lastSeen": seen, **_swallowed(destination, swallowed)}
                self._of_destination("bus.missing", destination, details)
            case BusFound(destination, secs, swallowed):
                known = {"busArn": destination.bus.arn, "missingSecs": round(secs)}
                self._of_destination("bus.found", destination, known | _swallowed(destination, swallowed))
            case OwnCredentialsFailed(code, message) if not self._are_credentials_failing:
                self._are_credentials_failing = True
                self._tell("credentials.failing", "", {"code": code, "message": message})
            case OwnCredentialsFound() if self._are_credentials_failing:
                self._are_credentials_failing = False
                self._tell("credentials.working", "", {})
            case _:
                pass

    def look(self, backlogs: Sequence[BacklogStats]) -> None:
        """Compare the backlogs of this moment with those of a while ago."""
        now_ms = self._now_ms()
        present = {one.destination_id: one for one in backlogs}
        for gone in self._backlogs.keys() - present.keys():
            if self._backlogs.pop(gone).is_told:
                self._of_backlog("backlog.ended", gone, {})
        for name, stats in present.items():
            known = self._backlogs.setdefault(name, _Backlog())
            known.sizes.append((now_ms, stats.events))
            while len(known.sizes) > 1 and now_ms - known.sizes[1][0] >= GROWING_SECS * 1000:
                known.sizes.popleft()
            since_ms, before = known.sizes[0]
            if now_ms - since_ms < GROWING_SECS * 1000:
                continue
            if stats.events < before:
                known.is_told = False
            elif stats.events > before and not known.is_told:
                known.is_told = True
                self._of_backlog("backlog.growing", name, _growth(stats, before))

    def look_at_dead_letters(self, found: Expiring | None) -> None:
        """Tell, once a day (UTC), that dead letters will be removed. The id is the same from every worker."""
        day = format_rfc3339(self._now_ms())[:10]
        if found is None or not found.letters or day == self._expiry_day:
            return
        self._expiry_day = day
        details = {"topic": found.topic, "letters": found.letters, "removedUntil": format_rfc3339(found.until_ms)}
        self._tell("deadletters.expiring", "", details, f"{found.topic}-{day}")

    def _of_backlog(self, kind: str, destination_id: str, details: Mapping[str, Any]) -> None:
        destination = self._find(destination_id)
        if destination is None:
            self._tell(kind, destination_id, {"destinationId": destination_id, **details})
        else:
            self._of_destination(kind, destination, details)

    def _of_destination(self, kind: str, destination: Destination, details: Mapping[str, Any]) -> None:
        whose = {
            "destinationId": destination.id,
            "vendor": destination.vendor,
            "customerExternalId": destination.customer_external_id,
        }
        self._tell(kind, destination.id, {**whose, **details})

    def _tell(self, kind: str, subject: str, details: Mapping[str, Any], notice_id: str = "") -> None:
        notice = {
            "specversion": "1.0",
            "id": notice_id or f"{self._worker}-{next(self._numbers)}",
            "source": self._source,
            "type": f"pushrail.{kind}",
            **({"subject": subject} if subject else {}),
            "time": format_rfc3339(self._now_ms()),
            "datacontenttype": "application/json",
            "data": {**details, "worker": self._worker},
        }
        self._append((subject or kind).encode(), orjson.dumps(notice))


def _swallowed(destination: Destination, swallowed: Swallowed | None) -> dict[str, Any]:
    """The deliveries that a missing bus swallowed, and the command that sends them again."""
    if swallowed is None:
        return {"deliveredSince": 0, "replay": None}
    return {"deliveredSince": swallowed.deliveries, "replay": swallowed.replay_command(destination.id)}


def _growth(stats: BacklogStats, before: int) -> dict[str, Any]:
    return {
        "events": stats.events,
        "eventsBefore": before,
        "beforeSecs": round(GROWING_SECS),
        "behindSince": format_rfc3339(stats.since_ms),
        "oldestAt": format_rfc3339(stats.oldest_at_ms),
    }
