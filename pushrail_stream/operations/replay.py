"""Delivers dead letters or past events again. The copies go to the first retry topic and are due now."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pushrail_stream.core.retry import MAX_REPLAYS
from pushrail_stream.core.skips import Mark
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import ReplayJournal, read_marks
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topics import check_topics, topics_named
from pushrail_stream.operations.attempts import read_attempt, read_attempts
from pushrail_stream.operations.audit import note_change
from pushrail_stream.operations.dead_letters import DeadLetterFilter, all_dead_letters
from pushrail_stream.operations.destinations import KnownDestinations
from pushrail_stream.operations.named_events import DeliveredEvents, NamedEvents
from pushrail_stream.operations.replay_selection import (
    DeadLetterSelection,
    EventFilter,
    EventSelection,
    ReplayProgress,
    copy_of,
    progress_key,
    progress_mark,
    read_progress,
    read_spans,
)
from pushrail_stream.operations.replay_sender import ReplaySender
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.topic_reader import Progress, read_scan, read_topic
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.policy import decoder_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """Bounds of a replay."""

    deliveries: int | None = None
    """The number after which it ends."""
    per_second: float | None = None
    is_dry_run: bool = False


class ReplayResult(NamedTuple):
    """The deliveries of a replay, and the reasons why others were left out, each with its count."""

    replay_id: str
    chosen: Counter[Any]
    left_out: Counter[str]


def replay_dead_letters(
    settings: Settings,
    known: KnownDestinations,
    wanted: DeadLetterFilter,
    limits: ReplayLimits,
    progress: Progress,
    *,
    again: bool = False,
    max_count: int = MAX_REPLAYS,
) -> ReplayResult:
    """Deliver dead letters again, each to the one destination that it did not reach.

    ``again`` repeats those that were replayed before, at most ``max_count`` times each. Raises `OperatorError`.
    """
    replay_id = _new_id()
    journal = _open_journal(settings, progress, replay_id, is_dry_run=limits.is_dry_run)
    marks = read_marks(reached_kafka(settings), settings.topics.replays)
    selection = DeadLetterSelection(
        wanted, known.directory, marks, replay_id, again, max_count, has_refused=bool(known.refused)
    )
    sender = ReplaySender(journal, settings, limits.per_second, progress)
    with sender.interruptible(replay_id, "run it again to go on"):
        for letter in all_dead_letters(settings, wanted.since_ms, progress):
            at = now_ms()
            for destination_id, number, mark in selection.take(letter, at):
                sender.add(copy_of(letter.original(), destination_id, replay_id, number, at), mark)
            if sender.is_full:
                sender.flush()
            if limits.deliveries is not None and selection.chosen.total() >= limits.deliveries:
                break
        sender.flush()
    return ReplayResult(replay_id, selection.chosen, selection.left_out)


def replay_events(
    settings: Settings,
    known: KnownDestinations,
    wanted: EventFilter | None,
    limits: ReplayLimits,
    progress: Progress,
    *,
    resume: str | None = None,
    note: Callable[[str, bool], Mark] | None = None,
) -> ReplayResult:
    """Deliver past events again, by the destinations there are now. Raises `OperatorError`.

    ``resume`` is the id of an interrupted replay, which has its own filter; then ``wanted`` is None. ``note`` makes a
    mark of the replay's id, and of whether it has ended, which is written when it begins and when it ends.
    """
    destination = wanted.destination if wanted else None
    if destination is not None and known.directory.get(destination) is None:
        raise UsageError(f"--destination: there is no destination {destination}; `destinations list` names them")
    replay_id = resume or _new_id()
    journal = _open_journal(settings, progress, replay_id, is_dry_run=limits.is_dry_run)
    marks = {} if wanted else read_marks(reached_kafka(settings), settings.topics.replays)
    state = ReplayProgress(wanted, {}) if wanted else _progress_of(marks, replay_id)
    named = _named_events(settings, state.wanted, progress)
    selection = EventSelection(state.wanted, known.directory, settings.vendor, named, decode=decoder_of(settings))
    sender = ReplaySender(journal, settings, limits.per_second, progress)
    with sender.interruptible(replay_id, f"go on with --resume {replay_id}"):
        _send_events(settings, replay_id, state, selection, sender, limits.deliveries, progress, note)
    return ReplayResult(replay_id, selection.chosen, selection.left_out)


def _send_events(
    settings: Settings,
    replay_id: str,
    state: ReplayProgress,
    selection: EventSelection,
    sender: ReplaySender,
    limit: int | None,
    progress: Progress,
    note: Callable[[str, bool], Mark] | None,
) -> None:
    topic, wanted = settings.topics.events, state.wanted
    since_ms: int | None = wanted.since_ms
    starts, only = state.offsets, None
    if selection.named is not None:
        since_ms, starts = None, selection.named.starts(state.offsets)
        only = starts.keys()
    # The times of a topic's records are in no order, so the topic is read to its end.
    with Scan(reached_kafka(settings), topic, since_ms=since_ms, starts=starts, only=only) as scan:
        _check_topic(topic, scan.topic_id, state)
        offsets = {**scan.positions, **state.offsets}

        def flush(*, is_end: bool | None = None) -> None:
            marks = [] if note is None or is_end is None else [note(replay_id, is_end)]
            sender.flush(progress_mark(replay_id, ReplayProgress(wanted, offsets, scan.topic_id)), *marks)

        flush(is_end=False)
        if not sender.is_dry_run:
            progress.note(f"{replay_id}: if this is cut off, --resume {replay_id} goes on with it")
        for record in read_scan(scan, "events", progress):
            offsets[record.partition] = record.offset + 1
            for destination_id in selection.take(record):
                sender.add(copy_of(record, destination_id, replay_id, 1, now_ms()))
            if sender.is_full:
                flush()
            if selection.is_complete or (limit is not None and selection.chosen.total() >= limit):
                break
        else:
            selection.finish()
        flush(is_end=True)


def _check_topic(topic: str, topic_id: str | None, state: ReplayProgress) -> None:
    """Refuse to go on in a topic that was deleted and created again."""
    if None not in {state.topic_id, topic_id} and state.topic_id != topic_id:
        raise OperatorError(f"--resume: {topic} was created again since then; begin a new replay")


def _named_events(settings: Settings, wanted: EventFilter, progress: Progress) -> NamedEvents | None:
    """The events that the delivery log names; None when the filter does not ask for it."""
    if wanted.destination is not None and wanted.paused is not None:
        return _paused_events(settings, wanted.destination, wanted.paused, progress)
    since_ms, until_ms = wanted.delivered_since_ms, wanted.delivered_until_ms
    if wanted.destination is None or since_ms is None or until_ms is None:
        return None
    delivered = DeliveredEvents(settings.topics.events, wanted.destination, since_ms, until_ms)
    for attempt in read_attempts(settings, progress, since_ms=since_ms):
        delivered.take(attempt)
    return delivered


def _paused_events(settings: Settings, destination: str, offsets: str, progress: Progress) -> NamedEvents:
    """The events that these offsets of the delivery log show as skipped while the destination was paused."""
    named, spans = NamedEvents(settings.topics.events, destination), read_spans(offsets)
    starts = {number: first for number, (first, _) in spans.items()}
    for record in read_topic(settings, settings.topics.attempts, "attempts", progress, starts=starts, only=spans):
        attempt = read_attempt(record.value)
        if attempt is not None and record.offset < spans[record.partition][1]:
            named.take(attempt)
    return named


def _open_journal(settings: Settings, progress: Progress, replay_id: str, *, is_dry_run: bool) -> ReplayJournal | None:
    """None for a dry run, which must not end a replay that is running."""
    if is_dry_run:
        return None
    note_change("replay", replay_id)
    kafka, topic = reached_kafka(settings), settings.topics.replays
    for caveat in check_topics(kafka, topics_named(settings, topic)):
        progress.note(f"warning: {caveat.problem}")
    return ReplayJournal(kafka, topic)


def _progress_of(marks: Mapping[str, bytes], replay_id: str) -> ReplayProgress:
    stored = marks.get(progress_key(replay_id))
    if stored is None:
        raise UsageError(f"--resume: there is no replay of events {replay_id} that has begun")
    state = read_progress(stored)
    if state is None:
        raise OperatorError(f"--resume: the progress of {replay_id} cannot be read; another program has written it")
    return state


def _new_id() -> str:
    return f"rp-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
