"""How destinations stand: the state of each by the delivery log since its last delivery.

Deliveries to a missing bus are logged as delivered, too. A second reading of the log counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, final

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.operations.attempts import Attempt, read_attempts
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

_PERIOD_MS: Final = 3_600_000
"""The part of the log that tells a destination's state: the last hour."""
State = Literal["delivering", "retrying", "slowed", "blocked", "suspended", "gone"]
_WORSE: Final = ("delivering", "retrying", "slowed", "blocked", "suspended", "gone")
"""Until something is delivered a destination stands as badly as it has stood."""


class DestinationHealth(NamedTuple):
    """How one destination stands."""

    state: State
    code: str | None
    """Of the attempt that says so, AWS's or ours."""
    since_ms: int
    """Epoch milliseconds of the first attempt that says so."""
    bus: MissingBus | None = None
    """Of a destination whose bus is missing."""


@final
class HealthReport:
    """Destinations by what became of their deliveries, taken in order of time."""

    def __init__(self) -> None:
        self._known: dict[str, DestinationHealth] = {}

    def take(self, attempt: Attempt) -> None:
        """Learn from one attempt. Of an event's own fault, and of what was skipped, nothing is learnt."""
        state, destination = _state(attempt.said), attempt.get("destinationId")
        if state is None or not isinstance(destination, str):
            return
        known = self._known.get(destination)
        bus = MissingBus.read(str(attempt.get("message"))) if state == "gone" else None
        if bus is not None and known is not None and known.bus is not None:
            self._known[destination] = known._replace(bus=_earliest(known.bus, bus))
        elif known is None or state == "delivering" or _WORSE.index(state) > _WORSE.index(known.state):
            since_ms = known.since_ms if known is not None and known.state == state else attempt.at_ms
            self._known[destination] = DestinationHealth(state, attempt.get("code"), since_ms, bus)

    def of(self, destination_id: str) -> DestinationHealth | None:
        """None when nothing was tried."""
        return self._known.get(destination_id)

    def missing(self) -> dict[str, MissingBus]:
        """The destinations whose bus is missing."""
        return {name: known.bus for name, known in self._known.items() if known.bus is not None}


@final
class SwallowedDeliveries:
    """Counts the deliveries to missing buses that were logged as delivered since each was last seen."""

    def __init__(self, missing: Mapping[str, MissingBus], otherwise_ms: int) -> None:
        """``otherwise_ms``: the start of counting when it is not known when a bus was last seen."""
        self._periods = {
            name: (otherwise_ms if bus.last_seen_ms is None else bus.last_seen_ms, bus.since_ms + 1)
            for name, bus in missing.items()
        }
        self._counts = Counter[str]()
        self._firsts: dict[str, int] = {}

    @property
    def since_ms(self) -> int:
        """The moment from which the delivery log is to be read, epoch milliseconds."""
        return min(since_ms for since_ms, _ in self._periods.values())

    def take(self, attempt: Attempt) -> None:
        """Learn from one attempt, whatever their order."""
        name, at_ms = attempt.get("destinationId"), attempt.at_ms
        since_ms, until_ms = self._periods.get(name, (0, 0))
        if attempt.get("status") == "delivered" and since_ms <= at_ms < until_ms:
            self._counts[name] += 1
            self._firsts[name] = min(at_ms, self._firsts.get(name, at_ms))

    def of(self, destination_id: str) -> Swallowed | None:
        """None where there are none."""
        count = self._counts[destination_id]
        if not count:
            return None
        return Swallowed(count, self._firsts[destination_id], self._periods[destination_id][1])


def read_health(settings: Settings, progress: Progress) -> tuple[HealthReport, SwallowedDeliveries]:
    """The destinations' health by the last hour of the delivery log, and the deliveries that missing buses swallowed.

    The log is read again, as far back as needed, when a bus is missing. Raises `OperatorError`.
    """
    report, since_ms = HealthReport(), now_ms() - _PERIOD_MS
    for attempt in read_attempts(settings, progress, since_ms=since_ms):
        report.take(attempt)
    missing = report.missing()
    swallowed = SwallowedDeliveries(missing, since_ms)
    if missing:
        for attempt in read_attempts(settings, progress, since_ms=swallowed.since_ms):
            swallowed.take(attempt)
    return report, swallowed


def _earliest(one: MissingBus, other: MissingBus) -> MissingBus:
    """Two workers' knowledge of a bus: when the first found it missing, and when one of them saw it last."""
    seen = [at for at in (one.last_seen_ms, other.last_seen_ms) if at is not None]
    return MissingBus(min(one.since_ms, other.since_ms), max(seen, default=None))


def _state(said: Mapping[str, Any]) -> State | None:
    match said.get("status"), said.get("reason"):
        case "delivered", _:
            return "delivering"
        case "retrying", reason:
            return "slowed" if reason == "throttled" else "retrying"
        case "dead_lettered", "suspended":
            return "suspended"
        case "dead_lettered", "blocked":
            return "gone" if said.get("code") == BUS_NOT_FOUND else "blocked"
        case _:
            return None
