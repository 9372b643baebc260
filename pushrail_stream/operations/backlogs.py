"""The backlogs: the destinations that have fallen behind, as the group's commits name them.

A destination that falls behind is served from its own positions in the log, its cursors. Every commit names them, so
they can be read while no worker runs. Living workers add how fast the backlog goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.groups import OpenCursors, UnreadableCursorsError, open_cursors
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.operations.fleet import FleetBacklog, read_fleet
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import DESTINATION_ID, check_options


class Backlog(NamedTuple):
    """The events that one destination which has fallen behind has still to get. Times are epoch milliseconds."""

    destination: str
    since_ms: int
    """Since when it has been behind."""
    waiting: int
    """Events that were read and are not delivered."""
    unread: int
    """Offsets not read yet. Some hold other destinations' events, so it is an upper bound of the unread events."""
    oldest_ms: int
    """Record time of its oldest event, or of an earlier one."""
    partitions: Sequence[int]
    """The partitions on which it is behind."""
    per_second: float | None = None
    """Deliveries a second over the last few seconds; None when no worker tells."""
    catch_up_secs: float | None = None
    """Seconds until nothing is left, at the present speed; None when no worker tells, or while it does not shrink."""

    @property
    def events(self) -> int:
        """The most events that the destination has still to get."""
        return self.waiting + self.unread


class Backlogs(NamedTuple):
    """The backlogs of a group."""

    found: list[Backlog]
    """Those with the most events first."""
    problem: OperatorError | None = None
    """The partitions whose cursors cannot be read; None when all can."""


def list_backlogs(settings: Settings, progress: Progress, destination: str | None = None) -> Backlogs:
    """The destinations that are behind, also when the cursors of some partitions cannot be read.

    When the workers cannot be read, nothing tells how fast a backlog goes, and the progress says so. Raises
    `OperatorError`.
    """
    if destination is not None:
        check_options(("--destination", DESTINATION_ID, destination))
    try:
        cursors, problem = open_cursors(reached_kafka(settings), settings.kafka.group_id, settings.topics), None
    except UnreadableCursorsError as error:
        cursors, problem = dict(error.readable), error
    return Backlogs(_with_speeds(settings, progress, sum_up(cursors), destination), problem)


def _with_speeds(
    settings: Settings, progress: Progress, found: Sequence[Backlog], destination: str | None
) -> list[Backlog]:
    wanted = [one for one in found if destination in {None, one.destination}]
    if not wanted:
        return []
    try:
        return add_speeds(wanted, read_fleet(settings).backlogs)
    except OperatorError as error:
        progress.note(f"nothing tells how fast the backlogs go, because the workers cannot be seen: {error}")
        return wanted


def sum_up(cursors: Mapping[int, OpenCursors]) -> list[Backlog]:
    """The backlogs of these cursors by partition, those with the most events first."""
    found: dict[str, Backlog] = {}
    for number, (states, end) in sorted(cursors.items()):
        for state in states:
            one = _of_cursor(number, state, end)
            if one.events or state.to is None:
                seen = found.get(state.destination_id)
                found[state.destination_id] = one if seen is None else _together(seen, one)
    return sorted(found.values(), key=lambda one: (-one.events, one.destination))


def add_speeds(backlogs: Sequence[Backlog], live: Mapping[str, FleetBacklog]) -> list[Backlog]:
    """The backlogs with the speeds at which the living workers see them go."""
    return [
        one._replace(per_second=seen.per_second, catch_up_secs=seen.catch_up_secs)
        if (seen := live.get(one.destination)) is not None
        else one
        for one in backlogs
    ]


def _of_cursor(number: int, state: CursorState, end: int) -> Backlog:
    unread = max(0, (end if state.to is None else state.to) - state.next)
    return Backlog(state.destination_id, state.opened_ms, len(state.open), unread, state.oldest_ms, [number])


def _together(one: Backlog, other: Backlog) -> Backlog:
    return Backlog(
        one.destination,
        min(one.since_ms, other.since_ms),
        one.waiting + other.waiting,
        one.unread + other.unread,
        min(one.oldest_ms, other.oldest_ms),
        [*one.partitions, *other.partitions],
    )
