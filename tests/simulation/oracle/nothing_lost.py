"""Nothing accepted is lost: each event ended at each destination that it owed.

An event that Kafka itself lost, or that an operator stepped over, owes nothing. A record of a skip may be missing where
the attempts log lost records: it never gates a delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionRestarted, PartitionsAssigned
from tests.simulation.oracle.deliveries import Deliveries, EventSeen
from tests.simulation.oracle.documents import Version
from tests.simulation.oracle.evidence import Violation, Written, position_of
from tests.simulation.oracle.settled import settle_secs

ASSERTION: Final = "nothing accepted is lost"


def find_lost(story: Deliveries) -> Iterator[Violation]:
    """A violation for each delivery that ended nowhere."""
    end = story.evidence.ended_at
    for seen in story.events:
        if story.is_stepped_over(seen.written) or not _is_owed(story, seen.written):
            continue
        if isinstance(seen.event, Undecodable):
            if not story.copies_of(seen, None):
                yield _lost(seen, "the DLQ, as it is no canonical event")
            continue
        owner = seen.event.vendor, seen.event.customer_external_id
        certain = story.documents.certain(owner, seen.written.at, end)
        for destination, versions in certain.items():
            if not _ended(story, seen, destination, versions):
                yield _lost(seen, destination)
        if not certain and not _ended_somewhere(story, seen, owner):
            yield _lost(seen, "any destination")


def _is_owed(story: Deliveries, one: Written) -> bool:
    """Whether an event must have ended by now. `settled` asks for those whose commits are late."""
    is_over = story.covered_at(one) <= story.evidence.ended_at
    is_over = is_over or one.at < story.evidence.ended_at - settle_secs(story.evidence)
    return is_over and one.is_readable and one.gone_at is None


def find_abandoned(story: Deliveries) -> Iterator[Violation]:
    """A violation for each delivery that a worker had read when Kafka lost it, and that it did not bring to an end."""
    ends = {end.host: end for end in story.evidence.worker_ends}
    disturbed = {one.host for one in story.evidence.disturbances if one.kind in {"killed", "expelled", "failed"}}
    for at, host, signal in story.evidence.signals:
        if not isinstance(signal, PartitionRestarted) or signal.position is None or host in disturbed:
            continue
        if host not in ends or ends[host].how != "stopped":
            continue
        begun = _begun_at(story, host, signal.partition, at)
        for one, seen, wanted in _deliveries(story):
            if _was_held(story, one, signal, begun, at) and isinstance(seen.event, Event):
                certain = story.documents.certain(seen.owner or ("", ""), one.at, at)
                for destination in certain if wanted is None else certain.keys() & {wanted}:
                    if not _went_on(story, seen, destination, one.at):
                        yield _lost(seen, destination)


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


def _was_held(story: Deliveries, one: Written, signal: PartitionRestarted, begun: tuple[float, int], at: float) -> bool:
    """Whether a worker had read this record of the lost part of a log, and had not committed it."""
    since, first = begun
    is_there = signal.partition == (one.record.topic, one.record.partition) and one.is_readable
    is_read = signal.position is not None and first <= one.record.offset < signal.position
    is_gone = one.gone_at is not None and max(since, one.at + 1.0) < one.gone_at <= at
    return is_there and is_read and is_gone and story.covered_at(one) == float("inf")


def _went_on(story: Deliveries, seen: EventSeen, destination: str, since: float) -> bool:
    """Whether a delivery was copied or came to an end after its record was written."""
    ends = [copy.written.at for copy in story.copies_of(seen, destination)]
    ends += [arrival.at for arrival in story.arrivals_of(seen.written.record.value or b"", destination)]
    said = story.said_about(seen, destination)
    ends += [one.written.at for one in said if one.get("status") != "retrying"]
    return any(at > since for at in ends)


def _ended(story: Deliveries, seen: EventSeen, destination: str, versions: list[Version]) -> bool:
    assert not isinstance(seen.event, Undecodable)
    if any(copy.is_dead or _kafka_lost(story, copy.written) for copy in story.copies_of(seen, destination)):
        return True
    if any(said.get("status") == "skipped" for said in story.said_about(seen, destination)):
        return True
    if may_skip(seen, versions) and _may_lack_skip(story, seen):
        return True
    arrivals = len(story.arrivals_of(seen.event.value, destination))
    return arrivals >= _needed(story, seen, destination)


def _kafka_lost(story: Deliveries, one: Written) -> bool:
    """Whether Kafka lost a copy before a commit covered it, as in an unclean election."""
    return one.gone_at is not None and one.gone_at <= story.covered_at(one)


def _needed(story: Deliveries, seen: EventSeen, destination: str) -> int:
    """The arrivals that the records with the same bytes need together.

    Those that became dead letters need none, nor do those that an operator stepped over.
    """
    assert not isinstance(seen.event, Undecodable)
    twins = story.by_value[seen.event.value]
    needed = 0
    for twin in twins:
        if twin.written.gone_at is None and twin.written.is_readable and twin.written.at <= seen.written.at:
            ended = any(copy.is_dead for copy in story.copies_of(twin, destination))
            ended = ended or any(said.get("status") == "skipped" for said in story.said_about(twin, destination))
            needed += not (ended or story.is_stepped_over(twin.written))
    return needed


def _ended_somewhere(story: Deliveries, seen: EventSeen, owner: tuple[str, str]) -> bool:
    """Whether anything is known of an event whose destinations are uncertain."""
    possible = {version.destination for version in story.documents.possible(owner, seen.written.at, float("inf"))}
    for destination in (None, *sorted(possible)):
        if any(copy.is_dead for copy in story.copies_of(seen, destination)):
            return True
        if any(said.get("status") == "skipped" for said in story.said_about(seen, destination)):
            return True
        if destination is not None and story.arrivals_of(seen.written.record.value or b"", destination):
            return True
    return _may_lack_skip(story, seen)


def _may_lack_skip(story: Deliveries, seen: EventSeen) -> bool:
    """Whether the record of a skip may be lost with the worker that committed the event."""
    commit = story.covered_by.get(id(seen.written))
    return commit is not None and story.may_lack_attempts(commit.at, commit.host)


def may_skip(seen: EventSeen, versions: list[Version]) -> bool:
    """Whether a version that may have been in force does not take the event."""
    return not isinstance(seen.event, Undecodable) and not all(one.takes(seen.event.event_type) for one in versions)


def _lost(seen: EventSeen, where: str) -> Violation:
    origin, at = position_of(seen.written.origin), seen.written.at
    return Violation(ASSERTION, f"the event at {origin}, written at {at:.3f}, never came to {where}", at)
