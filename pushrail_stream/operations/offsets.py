"""Moves the workers past records, or back to them: new committed offsets, and orders to skip a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.record import Origin, Partition, parse_offset
from pushrail_stream.core.skips import Skip, find_skip, skip_dead_letter, skip_mark
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.client_properties import events_consumer, retries_consumer
from pushrail_stream.kafka.groups import (
    OpenCursors,
    Shift,
    Target,
    UnreadableCursorsError,
    committed_by,
    members_of,
    move_group,
    open_cursors,
    plan_shift,
)
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import ReplayJournal, read_marks
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.kafka.unreadable import find_unreadable
from pushrail_stream.operations.audit import note_change
from pushrail_stream.operations.backlogs import Backlog, sum_up
from pushrail_stream.operations.times import now_ms, parse_moment
from pushrail_stream.settings.model import Settings

_MAX_REASON: Final = 500
"""Characters. The reason is part of an error message of at most 1 KiB."""


def parse_target(text: str) -> Target | None:
    """The offsets that ``earliest``, ``latest``, an offset, a time or "2h" (ago) name; None for any other text."""
    if text in {"earliest", "latest"}:
        return text
    offset = parse_offset(text)
    if offset is not None:
        return offset
    epoch_ms = parse_moment(text)
    return None if epoch_ms is None else f"time:{epoch_ms}"


class OffsetsMoved(NamedTuple):
    """Offsets that were moved, or would be."""

    shifts: Sequence[Shift]
    given_up: Sequence[Backlog]
    """The backlogs below the new offsets, on partitions that move. A moved commit names no cursors, so their events are
    not delivered."""
    problem: str = ""
    """Why `given_up` is not known; empty when it is."""


def move_offsets(settings: Settings, target: Target, partition: int | None, *, is_dry_run: bool) -> OffsetsMoved:
    """Move the offsets of all partitions, or of one. Raises `OperatorError`, also while a worker is running."""
    kafka, group, topic = reached_kafka(settings), settings.kafka.group_id, settings.topics.events
    if not is_dry_run and (members := members_of(kafka, group)):
        raise OperatorError(
            f"group {group} is active ({', '.join(members)}): stop its workers first; its offsets stay as they are"
        )
    shifts = plan_shift(kafka, group, topic, target, partition)
    if not shifts:
        raise UsageError(f"--partition: {topic} has no partition {partition}")
    unreadable = frozenset[int]()
    try:
        moved = OffsetsMoved(shifts, _given_up(open_cursors(kafka, group, settings.topics), shifts))
    except UnreadableCursorsError as error:  # a reason to move offsets
        moved, unreadable = OffsetsMoved(shifts, [], str(error)), error.partitions
    if not is_dry_run:
        for shift in shifts:
            note_change("offset", f"{group}: {topic}/{shift.partition}", _text(shift.old), str(shift.new))
        # If the caller names one partition, a commit at its present offset removes cursors that cannot be read.
        move_group(kafka, group, topic, [s._replace(old=None) if partition in unreadable else s for s in shifts])
    return moved


def _text(offset: int | None) -> str | None:
    return None if offset is None else str(offset)


def _given_up(cursors: Mapping[int, OpenCursors], shifts: Sequence[Shift]) -> list[Backlog]:
    moved = {shift.partition: shift.new for shift in shifts if shift.new != shift.old}
    return sum_up({
        number: OpenCursors([_below(state, moved[number]) for state in states], end)
        for number, (states, end) in cursors.items()
        if number in moved
    })  # fmt: skip


def _below(state: CursorState, end: int) -> CursorState:
    """The part of a cursor below this offset."""
    to = end if state.to is None else min(state.to, end)
    return replace(state, to=to, open=tuple(offset for offset in state.open if offset < end))


class SkipOrdered(NamedTuple):
    """An order to skip offsets."""

    skip: Skip
    is_new: bool
    """False when it had been ordered before."""


def order_skip(settings: Settings, at: Origin, reason: str, *, is_dry_run: bool) -> SkipOrdered:
    """Order workers to skip the unreadable batch at a position. Raises `OperatorError` when it can be read.

    The order and a dead letter for the batch are written together.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= _MAX_REASON:
        raise UsageError(f"--reason: must have 1 to {_MAX_REASON} characters")
    ordered = _find_or_plan(settings, at, reason)
    if ordered.is_new and not is_dry_run:
        letter = skip_dead_letter(ordered.skip)
        note_change("skip", str(ordered.skip.partition), str(ordered.skip.first), str(ordered.skip.end))
        journal = ReplayJournal(reached_kafka(settings), settings.topics.replays, role="skip")
        journal.write(settings.topics.dlq, [(None, None, letter.headers())], [skip_mark(ordered.skip)])
    return ordered


def _find_or_plan(settings: Settings, at: Origin, reason: str) -> SkipOrdered:
    topics, kafka = settings.topics, reached_kafka(settings)
    if at.topic != topics.events and at.topic not in topics.retry:
        raise UsageError(f"POSITION: {at.topic} is neither topics.events nor one of topics.retry")
    partition = Partition(at.topic, at.partition)
    id_ = topic_id(kafka, at.topic)
    known = find_skip(read_marks(kafka, topics.replays), partition, at.offset, id_)
    if known is not None:
        return SkipOrdered(known, is_new=False)
    batch = find_unreadable(kafka, partition, at.offset)
    if batch is None:
        raise OperatorError(
            f"{at} can be read, or no record is left from there on, so nothing has to be skipped. If a worker stands "
            "still there, run this command with that worker's kafka.client: by another receive.message.max.bytes, "
            "other batches can be read"
        )
    consumer = events_consumer(kafka) if at.topic == topics.events else retries_consumer(kafka)
    committed = committed_by(kafka, consumer.group_id, at.topic)[at.partition].offset
    if committed >= batch.end:
        raise OperatorError(f"{at}: the workers' group has passed it already (its committed offset is {committed})")
    return SkipOrdered(Skip(partition, batch.first, batch.end, reason, now_ms(), id_), is_new=True)
