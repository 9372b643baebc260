"""A worker brings to an end what it had read of a log that Kafka lost: nothing else can.

The log was deleted with its topic, or cut off. The worker notices that by itself, and says that the partition begins
again. The events of a cursor that are not in memory go with their log, and the worker says so, also of those that it
had committed with the cursor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from pushrail_stream.core.event import Event
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import CopyFailed, CursorTrimmed, PartitionRestarted, PartitionsAssigned
from tests.simulation.oracle.cursor_duties import duties_of
from tests.simulation.oracle.deliveries import Deliveries, EventSeen
from tests.simulation.oracle.evidence import Violation, WorkerEnd, Written
from tests.simulation.oracle.nothing_lost import loss

_TRIED_SECS: Final = 45.0
"""Longest time in seconds between two refusals of a copy: the client's own tries, and a pause."""


def find_abandoned(story: Deliveries) -> Iterator[Violation]:
    """A violation for each delivery that a worker had read when Kafka lost it, and that it did not bring to an end."""
    ends = {end.host: end for end in story.evidence.worker_ends}
    disturbed = {one.host for one in story.evidence.disturbances if one.kind in {"killed", "expelled", "failed"}}
    for at, host, signal in story.evidence.signals:
        if not isinstance(signal, PartitionRestarted) or signal.position is None or host in disturbed:
            continue
        if host not in ends or ends[host].how != "stopped" or _was_cut_off(story, ends[host]):
            continue
        begun = _begun_at(story, host, signal.partition, at)
        read = _read_first(story, signal.partition, begun[0], at)
        refused = _refused(story, host, ends[host].at - _TRIED_SECS)
        for one, seen, wanted in _deliveries(story):
            is_held = read.get(one.record.offset) is one and _was_held(one, signal, begun, at)
            if not is_held or not isinstance(seen.event, Event):
                continue
            certain = story.documents.certain(seen.owner or ("", ""), one.at, at)
            for destination in _left(story, one, certain if wanted is None else certain.keys() & {wanted}):
                is_refused = destination in refused[seen.event.value] or _is_told(story, host, one, destination, at)
                if not is_refused and not _went_on(story, seen, destination, one.at):
                    yield loss(seen, destination)


def _was_cut_off(story: Deliveries, end: WorkerEnd) -> bool:
    """Whether Kafka was out of the worker's reach shortly before its end, so that a copy may still have waited."""
    since = end.at - _TRIED_SECS
    return any(
        one.kind == "kafka" and one.host in {"", end.host} and one.at <= end.at and one.until >= since
        for one in story.evidence.disturbances
    )


def _left(story: Deliveries, one: Written, destinations: Iterable[str]) -> list[str]:
    """Those that the worker had left open: of a record that was committed, those whose cursors had it."""
    if story.covered_at(one) == float("inf"):
        return list(destinations)
    return [name for name in destinations if duties_of(story).were_taken(one, name)]


def _is_told(story: Deliveries, host: str, one: Written, destination: str, at: float) -> bool:
    """Whether the worker said, when the partition began again, that a cursor lost the event with its log."""
    here = Partition(one.record.topic, one.record.partition)
    return any(
        seen_at == at and of == host and signal.partition == here and signal.destination_id == destination
        and signal.start <= one.record.offset < signal.end
        for seen_at, of, signal in story.evidence.signals
        if isinstance(signal, CursorTrimmed)
    )  # fmt: skip


def _refused(story: Deliveries, host: str, since: float) -> dict[bytes, set[str | None]]:
    """By event the destinations whose copies Kafka still refused when the worker had to stop."""
    found: dict[bytes, set[str | None]] = defaultdict(set)
    for at, of, signal in story.evidence.signals:
        if isinstance(signal, CopyFailed) and of == host and at >= since:
            found[signal.copy.record.value or b""].add(signal.copy.destination_id)
    return found


def _deliveries(story: Deliveries) -> Iterator[tuple[Written, EventSeen, str | None]]:
    """Each record with deliveries, its event, and the destination; None for an event, which is for all of them."""
    for seen in story.events:
        yield seen.written, seen, None
    for copy in story.copies:
        if not copy.is_dead and (of := story.event_of_copy(copy)) is not None:
            yield copy.written, of, copy.headers.destination or ""


def _begun_at(story: Deliveries, host: str, partition: Partition, at: float) -> tuple[float, int]:
    """The time and the offset at which a worker began to read a partition, or began again with another log."""
    begun = (at, 0)
    for seen_at, seen_host, signal in story.evidence.signals:
        if seen_host != host or seen_at > at:
            continue
        if isinstance(signal, PartitionsAssigned):
            begun = next(((seen_at, offset or 0) for one, offset in signal.partitions if one == partition), begun)
        elif isinstance(signal, PartitionRestarted) and signal.partition == partition and seen_at < at:
            begun = (seen_at, 0)
    return begun


def _read_first(story: Deliveries, partition: Partition, since: float, at: float) -> dict[int, Written]:
    """By offset the lost record that the worker may have read.

    A topic may be recreated several times, and a log may be cut off several times, before the worker notices: it had
    read the first of the topics, and the first of the records that had one offset.
    """
    lost = [
        one
        for one in story.evidence.on(partition.topic)
        if one.record.partition == partition.number and one.gone_at is not None and since < one.gone_at <= at
    ]
    lost.sort(key=lambda one: one.gone_at or 0.0)
    log = lost[0].record.topic_id if lost else None
    return {one.record.offset: one for one in reversed(lost) if one.record.topic_id == log}


def _was_held(one: Written, signal: PartitionRestarted, begun: tuple[float, int], at: float) -> bool:
    """Whether a worker had read this record of the lost part of a log."""
    since, first = begun
    is_there = signal.partition == (one.record.topic, one.record.partition) and one.is_readable
    is_read = signal.position is not None and first <= one.record.offset < signal.position
    is_gone = one.gone_at is not None and max(since, one.at + 1.0) < one.gone_at <= at
    return is_there and is_read and is_gone


def _went_on(story: Deliveries, seen: EventSeen, destination: str, since: float) -> bool:
    """Whether a delivery was copied or came to an end after its record was written."""
    ends = [copy.written.at for copy in story.copies_of(seen, destination)]
    ends += [arrival.at for arrival in story.arrivals_of(seen.written.record.value or b"", destination)]
    said = story.said_about(seen, destination)
    ends += [one.written.at for one in said if one.get("status") != "retrying"]
    return any(at > since for at in ends)
