"""Searches the delivery log: in the index as far as it goes, and in the topic from there on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.attempts import Attempt, AttemptFilter, read_attempt, read_attempts
from pushrail_stream.operations.dead_letters import DeadLetterFilter, DeadLetterRecord, all_dead_letters
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

_DEFAULT_PERIOD_MS: Final = 86_400_000
"""The period of a search that names neither a time nor an event: a day."""


MOST_SEARCHED: Final = 500_000
"""Most dead letters that are read for an event without attempts: reading them takes about a minute."""


def search_attempts(
    settings: Settings, wanted: AttemptFilter, progress: Progress, newest: int | None = None
) -> Iterator[Attempt]:
    """The attempts that match. Of the index at most the ``newest`` are read. Raises `OperatorError`."""
    path, topic = settings.history.index, settings.topics.attempts
    starts: dict[int, int] | None = None
    since_ms = wanted.since_ms
    if path is not None and path.exists():
        with AttemptIndex.open(path, topic) as index, index.snapshot():
            if _is_usable(index, settings, since_ms, progress):
                starts = index.offsets()
                back = "" if index.since_ms is None else f", back to {format_rfc3339(index.since_ms)}"
                progress.note(f"by the index {path}{back}, and the topic from there on")
                yield from index.find(wanted, newest)
    if starts is None and since_ms is None and not wanted.names_one_event:
        since_ms = _default_since_ms()
        progress.note(f"since {format_rfc3339(since_ms)} (--since searches further back)")
    yield from filter(wanted.matches, read_attempts(settings, progress, since_ms=since_ms, starts=starts))


def search_dead_letters(settings: Settings, wanted: AttemptFilter, progress: Progress) -> Iterator[DeadLetterRecord]:
    """The dead letters of the events that a search for attempts meant, among the first `MOST_SEARCHED`.

    An attempt may be missing because the log no longer keeps it, or lost it. Raises `OperatorError`.
    """
    since_ms = wanted.since_ms
    if since_ms is None and not wanted.names_one_event:
        since_ms = _default_since_ms()
    letters = all_dead_letters(settings, since_ms, progress)
    for letter in islice(letters, MOST_SEARCHED):
        if (since_ms is None or letter.failed_at_ms >= since_ms) and means(wanted, letter):
            yield letter
    if next(letters, None) is not None:
        progress.note(f"only the first {MOST_SEARCHED:,} dead letters were looked at; `dlq show` searches all")


def means(wanted: AttemptFilter, letter: DeadLetterRecord) -> bool:
    """Whether a dead letter, or a copy on a retry topic, is of an event that a search for attempts meant."""
    shared = ("key", "origin", "customer", "destination", "vendor", "event_type", "code", "replay", "until_ms")
    meant = DeadLetterFilter(**{name: getattr(wanted, name) for name in shared})
    return meant.matches(letter) and wanted.correlation_id in {None, letter.identity.correlation_id}


def _default_since_ms() -> int:
    return now_ms() - _DEFAULT_PERIOD_MS


def _is_usable(index: AttemptIndex, settings: Settings, since_ms: int | None, progress: Progress) -> bool:
    """Whether the index holds the attempts asked for, as far as it goes. Otherwise the topic alone is read."""
    path, topic = settings.history.index, settings.topics.attempts
    if not index.is_of(topic_id(reached_kafka(settings), topic)):
        progress.note(f"{path} is not used: {topic} was created again since (`attempts index` begins it again)")
        return False
    if since_ms is not None and since_ms < (index.since_ms or 0):
        progress.note(f"{path} is not used: it goes back to {format_rfc3339(index.since_ms or 0)}")
        return False
    return bool(index.offsets())


def follow_attempts(settings: Settings, wanted: AttemptFilter) -> Iterator[Attempt]:
    """The attempts that match from now on, or from the filter's time on, without end."""
    since_ms = now_ms() if wanted.since_ms is None else wanted.since_ms
    with Scan(reached_kafka(settings), settings.topics.attempts, since_ms=since_ms, follow=True) as scan:
        for batch in scan:
            for record in batch:
                attempt = read_attempt(record.value)
                if attempt is not None and attempt.at_ms >= since_ms and wanted.matches(attempt):
                    yield attempt
