"""Resumes a paused destination: its events are delivered from now on, and those that were skipped are sent, once.

The delivery log names the skipped events. A mark says how far it has been read for the destination, by offsets, and
which replay sends the events of that part: an interrupted one is finished first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from pushrail_stream.core.skips import Mark, parse_mark
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import read_marks
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.operations.destinations import KnownDestinations, known_destinations
from pushrail_stream.operations.document_changes import plan_switch, unusable
from pushrail_stream.operations.document_plan import PlannedChange, write_plan
from pushrail_stream.operations.replay import ReplayLimits, ReplayResult, replay_events
from pushrail_stream.operations.replay_selection import ANY_TIME, EventFilter, progress_key, read_progress, spans_text
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.settings.model import Settings

FOLLOW_SECS: Final = 10.0
"""Seconds after which workers have followed a changed document (5) and written their last records of skips."""


class Resumed(NamedTuple):
    """A resumed destination."""

    change: PlannedChange
    """Of its document."""
    replays: list[ReplayResult]
    """The replays that send its skipped events: one, and before it one that had been interrupted."""


class _Mark(NamedTuple):
    """How far the delivery log has been read for a destination."""

    replay: str
    """The replay that sends the events before."""
    ends: Mapping[int, int]
    """By partition of the log the offset to go on from."""
    topic_id: str | None
    is_done: bool


def resume_destination(settings: Settings, destination_id: str, limits: ReplayLimits, progress: Progress) -> Resumed:
    """Let events pass again, and send those that were skipped while the destination was paused.

    Raises `OperatorError`. Done again, it sends the rest: what was interrupted, and what was skipped since.
    """
    (change,) = plan_switch(settings, [destination_id], "paused", on=False)
    known = _unpaused(settings, change.destination_id)
    key = f"resume:{change.destination_id}"
    marks = read_marks(reached_kafka(settings), settings.topics.replays)
    mark = _read(marks.get(key))
    if not limits.is_dry_run and change.effect != "unchanged":
        write_plan(settings, [change])
        progress.note("waiting until workers have followed the document")
        time.sleep(FOLLOW_SECS)
    with Scan(reached_kafka(settings), settings.topics.attempts) as scan:
        log_id, ends = scan.topic_id, scan.ends
    if mark is not None and None not in {mark.topic_id, log_id} and mark.topic_id != log_id:
        mark = None  # the log was created again, so that the offsets mean nothing
    replays = list[ReplayResult]()
    if mark is not None and not mark.is_done and _can_go_on(settings, marks.get(progress_key(mark.replay))):
        before = mark
        replays.append(replay_events(
            settings, known, None, limits, progress, resume=mark.replay,
            note=lambda replay_id, is_end: _write(key, before._replace(replay=replay_id, is_done=is_end)),
        ))  # fmt: skip
    starts = mark.ends if mark is not None else {}
    spans = {number: (starts.get(number, 0), end) for number, end in ends.items()}
    wanted = EventFilter(
        since_ms=ANY_TIME[0], until_ms=ANY_TIME[1], destination=change.destination_id, paused=spans_text(spans)
    )
    replays.append(replay_events(
        settings, known, wanted, limits, progress,
        note=lambda replay_id, is_end: _write(key, _Mark(replay_id, ends, log_id, is_end)),
    ))  # fmt: skip
    return Resumed(change, replays)


def _can_go_on(settings: Settings, stored: bytes | None) -> bool:
    """Whether an interrupted replay can be finished: its topic of events was not deleted and created again since."""
    state = None if stored is None else read_progress(stored)
    if state is None:
        return False
    now = topic_id(reached_kafka(settings), settings.topics.events)
    return None in {state.topic_id, now} or state.topic_id == now


def _unpaused(settings: Settings, destination_id: str) -> KnownDestinations:
    """The destinations, with this one as it is after its document has changed."""
    known = known_destinations(settings)
    destination = known.directory.get(destination_id)
    if destination is None:
        raise unusable(settings, destination_id)
    index = DestinationIndex([(known.directory.document_of(destination_id) or "", replace(destination, paused=False))])
    return KnownDestinations(index, known.refused)


def _write(key: str, mark: _Mark) -> Mark:
    ends = {str(number): end for number, end in mark.ends.items()}
    value = {"replay": mark.replay, "attempts": ends, "topicId": mark.topic_id, "done": mark.is_done}
    return Mark(key, json.dumps(value).encode())


def _read(value: bytes | None) -> _Mark | None:
    match parse_mark(value or b""):
        case {
            "replay": str(replay), "attempts": dict(ends), "topicId": str() | None as log_id, "done": bool(is_done),
        } if all(str(number).isdecimal() and type(end) is int for number, end in ends.items()):  # fmt: skip
            return _Mark(replay, {int(number): int(end) for number, end in ends.items()}, log_id, is_done)
        case _:
            return None
