"""The state of each destination: as workers see it now, else by the delivery log since its last delivery.

A worker knows the destinations that it has to do with. The log knows the others of the last hour, and tells since when.
Deliveries to a missing bus are logged as delivered, too. A second reading of the log counts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.destination_state import DestinationState, severity
from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.attempts import Attempt, read_attempts
from pushrail_stream.operations.backlogs import Backlog, list_backlogs
from pushrail_stream.operations.fleet import Fleet, read_fleet
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

_PERIOD_MS: Final = 3_600_000
"""The part of the log that tells a destination's state: the last hour."""


class DestinationHealth(NamedTuple):
    """How one destination stands."""

    state: DestinationState
    """Until something is delivered, the worst state there was."""
    code: str | None
    """Of the attempt that says so, AWS's or ours."""
    since_ms: int | None
    """Epoch milliseconds of the first attempt that says so; None when only the workers say so."""
    bus: MissingBus | None = None
    """Of a destination whose bus is missing."""
    swallowed: Swallowed | None = None
    """Deliveries to the missing bus that are logged as delivered; None without any."""


def read_health(settings: Settings, progress: Progress) -> dict[str, DestinationHealth]:
    """The health of the destinations that a worker has to do with or that have attempts in the last hour, by id.

    When the workers cannot be read, the log alone tells, and the progress says so. When a bus is missing, the log is
    read again, as far back as the bus was last seen. Raises `OperatorError`.
    """
    since_ms = now_ms() - _PERIOD_MS
    found = judge_health(read_attempts(settings, progress, since_ms=since_ms))
    periods = missing_periods(found, since_ms)
    if periods:
        first_ms = min(begin_ms for begin_ms, _ in periods.values())
        swallowed = count_swallowed(read_attempts(settings, progress, since_ms=first_ms), periods)
        found |= {name: found[name]._replace(swallowed=count) for name, count in swallowed.items()}
    try:
        return add_live(found, read_fleet(settings))
    except OperatorError as error:
        progress.note(f"the states are those of the delivery log, because the workers cannot be seen: {error}")
        return found


class SeenState(NamedTuple):
    """A destination, and everything that is seen of it."""

    destination: Destination
    state: str | None
    """``disabled`` by the document; None without a worker and without attempts."""
    health: DestinationHealth | None
    """As `read_health` has it. A disabled destination has none."""
    backlog: Backlog | None
    """The events that it has still to get; None when it is not behind."""


def read_states(settings: Settings, destinations: Iterable[Destination], progress: Progress) -> list[SeenState]:
    """Each destination with its state, its health and its backlog. Raises `OperatorError`.

    When the backlogs cannot be read, the progress says so.
    """
    health = read_health(settings, progress)
    backlogs = _backlogs(settings, progress)
    known = ((one, health.get(one.id) if one.closed_as is None else None) for one in destinations)
    return [
        SeenState(one, one.closed_as or (found.state if found else None), found, backlogs.get(one.id))
        for one, found in known
    ]


def _backlogs(settings: Settings, progress: Progress) -> dict[str, Backlog]:
    try:
        found, problem = list_backlogs(settings, progress)
    except OperatorError as error:
        found, problem = [], error
    if problem is not None:
        progress.note(f"the backlogs are not known: {problem}")
    return {one.destination: one for one in found}


def add_live(logged: Mapping[str, DestinationHealth], fleet: Fleet) -> dict[str, DestinationHealth]:
    """The health by the log, corrected by the records that the living workers wrote after the log's first attempt.

    A worker writes its record every few seconds, and an attempt may have changed the state since the last one. Of
    several workers with the destination, the oldest record counts: the attempt may be its writer's.
    """
    newest_first = sorted(fleet.alive, key=lambda worker: worker.state.at, reverse=True)
    seen_ms = {one.id: worker.state.at for worker in newest_first for one in worker.state.destinations}
    found = dict(logged)
    for name, live in fleet.destinations.items():
        known = found.get(name)
        if known is None or (known.state != live.state and (known.since_ms or 0) <= seen_ms[name]):
            code = None if live.state == "ok" else live.last_error or None
            found[name] = DestinationHealth(live.state, code, None)
    return found


def judge_health(attempts: Iterable[Attempt]) -> dict[str, DestinationHealth]:
    """The health of destinations by their attempts in order of time. An event's own fault and a skip tell nothing."""
    found: dict[str, DestinationHealth] = {}
    for attempt in attempts:
        state, destination = _state(attempt.said), attempt.get("destinationId")
        if state is None or not isinstance(destination, str):
            continue
        known = found.get(destination)
        bus = MissingBus.read(str(attempt.get("message"))) if state == "gone" else None
        if bus is not None and known is not None and known.bus is not None:
            found[destination] = known._replace(bus=_earliest(known.bus, bus))
        elif known is None or state == "ok" or severity(state) > severity(known.state):
            since_ms = known.since_ms if known is not None and known.state == state else attempt.at_ms
            found[destination] = DestinationHealth(state, attempt.get("code"), since_ms, bus)
    return found


def missing_periods(found: Mapping[str, DestinationHealth], otherwise_ms: int) -> dict[str, tuple[int, int]]:
    """By destination with a missing bus, the time from its last sight (else from ``otherwise_ms``) to its loss."""
    return {
        name: (otherwise_ms if bus.last_seen_ms is None else bus.last_seen_ms, bus.since_ms + 1)
        for name, health in found.items()
        if (bus := health.bus) is not None
    }


def count_swallowed(attempts: Iterable[Attempt], periods: Mapping[str, tuple[int, int]]) -> dict[str, Swallowed]:
    """The deliveries that are logged as delivered in each destination's period, whatever their order."""
    found: dict[str, Swallowed] = {}
    for attempt in attempts:
        name, at_ms = attempt.get("destinationId"), attempt.at_ms
        begin_ms, end_ms = periods.get(name, (0, 0)) if isinstance(name, str) else (0, 0)
        if attempt.get("status") == "delivered" and begin_ms <= at_ms < end_ms:
            count, first_ms, _ = found.get(name, Swallowed(0, at_ms, end_ms))
            found[name] = Swallowed(count + 1, min(first_ms, at_ms), end_ms)
    return found


def _earliest(one: MissingBus, other: MissingBus) -> MissingBus:
    """Two workers' knowledge of a bus: when the first found it missing, and when one of them saw it last."""
    seen = [at for at in (one.last_seen_ms, other.last_seen_ms) if at is not None]
    return MissingBus(min(one.since_ms, other.since_ms), max(seen, default=None))


def _state(said: Mapping[str, Any]) -> DestinationState | None:
    match said.get("status"), said.get("reason"):
        case "delivered", _:
            return "ok"
        case "retrying", reason:
            return "slowed" if reason == "throttled" else "retrying"
        case "dead_lettered", "suspended":
            return "suspended"
        case "dead_lettered", "blocked":
            return "gone" if said.get("code") == BUS_NOT_FOUND else "blocked"
        case _:
            return None
