"""The fleet at a glance: workers, lag, and the destinations that need attention most, over all workers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.fleet import Fleet, FleetBacklog, FleetDestination, FleetWorker


class Overview(NamedTuple):
    """The fleet at one moment. Counts are of the living workers."""

    at_ms: int
    fleet: Fleet
    lag: Counter[str]
    """Records above the committed offsets, of ``events`` and ``retries``."""
    oldest_secs: float | None
    """Age of the oldest record that is not settled; None when every record is, or no worker is alive."""
    waiting: int
    """Deliveries in lanes."""
    calls: int
    """Calls in flight."""
    per_second: float
    """Deliveries a second, to the destinations shown."""
    errors_per_second: float
    destinations: Sequence[FleetDestination]
    """Those that need attention most come first."""
    behind: int
    """Destinations that have fallen behind, at least."""
    backlog_events: int
    """The most events that these have still to get. The lag does not count them."""
    backlogs: Mapping[str, FleetBacklog]
    """The largest backlogs, by destination."""
    unshown: int
    """Destinations with something to do that workers left out of their states, because others need attention more."""

    @property
    def oldest_backlog_secs(self) -> float:
        """Age of the oldest event in the backlogs; 0 without any."""
        return max(0, self.at_ms - min((one.oldest_at for one in self.backlogs.values()), default=self.at_ms)) / 1000

    @property
    def age_secs(self) -> float:
        """Age of the oldest state of a living worker: everything shown is at least that fresh."""
        return max((worker.age_secs for worker in self.fleet.alive), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """The JSON object of the overview. Times are RFC 3339, rates are a second."""
        return {
            "at": format_rfc3339(self.at_ms),
            "workers": [_worker(worker) for worker in (*self.fleet.alive, *self.fleet.lost)],
            "otherGroups": self.fleet.others,
            "unreadable": self.fleet.unreadable,
            "problem": self.fleet.problem,
            "lag": dict(self.lag),
            "oldestSecs": self.oldest_secs,
            "waiting": self.waiting,
            "calls": self.calls,
            "perSecond": round(self.per_second, 2),
            "errorsPerSecond": round(self.errors_per_second, 2),
            "behind": self.behind,
            "backlogEvents": self.backlog_events,
            "backlogs": [_backlog(one) for one in self.backlogs.values()],
            "destinations": [msgspec.to_builtins(one) for one in self.destinations],
            "unshown": self.unshown,
        }


def overview(fleet: Fleet, now_ms: int) -> Overview:
    """Put the newest states of all living workers together."""
    alive, destinations, backlogs = fleet.alive, list(fleet.destinations.values()), fleet.backlogs
    lag, totals = Counter[str](), Counter[str]()
    for worker in alive:
        lag.update(worker.state.lag)
        totals.update(worker.state.totals)
    oldest = [one.oldest_at for worker in alive for one in worker.state.partitions if one.oldest_at is not None]
    return Overview(
        now_ms,
        fleet,
        lag,
        max(0, now_ms - min(oldest)) / 1000 if oldest else None,
        totals["waiting"],
        totals["calls"],
        math.fsum(one.per_second for one in destinations),
        math.fsum(one.errors_per_second for one in destinations),
        destinations,
        # A destination may be behind at several workers, and each worker names its largest backlogs only.
        max([len(backlogs), *(worker.state.totals.get("behind", 0) for worker in alive)]),
        totals["backlogEvents"],
        backlogs,
        sum(max(0, worker.state.totals.get("active", 0) - len(worker.state.destinations)) for worker in alive),
    )


def _backlog(one: FleetBacklog) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(one)
    return said | {"since": format_rfc3339(one.since), "oldestAt": format_rfc3339(one.oldest_at)}


def _worker(worker: FleetWorker) -> dict[str, Any]:
    state = worker.state
    return {
        "id": state.id,
        "name": state.name,
        "state": "lost" if worker.is_lost else "alive",
        "ageSecs": round(worker.age_secs, 1),
        "http": state.http,
        "version": state.version,
        "group": state.group,
        "startedAt": format_rfc3339(state.started_at),
        "reasons": list(state.reasons),
        "lag": dict(state.lag),
    }
