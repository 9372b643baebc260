"""A commit tells what was delivered: a cursor does not keep an event that its worker had delivered long before.

Repeats are bounded by what was sent and not yet committed when a worker died, and commits are seconds apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionRestarted, PartitionsAssigned
from tests.simulation.oracle.commit_cursors import read_cursors
from tests.simulation.oracle.covers import Log, log_of
from tests.simulation.oracle.cursor_duties import Duty, duties_of
from tests.simulation.oracle.deliveries import Arrival, Deliveries
from tests.simulation.oracle.evidence import Commit, Violation, position_of
from tests.simulation.oracle.periods import Periods

ASSERTION: Final = "a commit tells what was delivered"
_LATE_SECS: Final = 15.0
"""Longest time in seconds from an arrival to the commits that tell of it: an answer takes 5 s, a snapshot may be 5 s
old, and the rest is a margin."""
_EXCUSES: Final = frozenset({"kafka", "commit", "operator", "log", "paused"})
"""Disturbances for which a commit comes late, or the place of a group goes back."""


def find_untold(story: Deliveries) -> Iterator[Violation]:
    """A violation for each event that a cursor of a commit still has, though its worker knew long ago that it came."""
    commits: dict[Log, list[Commit]] = defaultdict(list)
    for commit in story.evidence.commits:
        commits[log_of(commit)].append(commit)
    if story.evidence.has_kafka_weather:
        return
    begun = _begun(story)
    kinds = (one for one in story.evidence.disturbances if one.kind in _EXCUSES)
    disturbed = Periods((one.at - _LATE_SECS, one.until + _LATE_SECS) for one in kinds)
    for _, duty in duties_of(story).taken:
        arrival = _known_arrival(story, duty)
        if arrival is None:
            continue
        partition = Partition(duty.one.record.topic, duty.one.record.partition)
        some, told_by = commits[partition, duty.one.record.topic_id], arrival.at + _LATE_SECS
        for commit in some[bisect_left(some, told_by, key=lambda one: one.at) :]:
            if commit.host != arrival.call.host or any(arrival.at <= at <= commit.at for at in begun[partition]):
                break  # the next owner may not have known
            cursor = read_cursors(commit.committable).get(duty.destination)
            is_open = cursor is not None and cursor.covers(duty.one.record.offset)
            if is_open and not disturbed.meet(arrival.at, commit.at):
                sentence = (
                    f"{commit.host} committed {partition} at {commit.committable.offset} at {commit.at:.3f}, and the "
                    f"cursor of {duty.destination} still has the event at {position_of(duty.one.origin)}, which it had "
                    f"delivered at {arrival.at:.3f}"
                )
                yield Violation(ASSERTION, sentence, commit.at)
            break


def _begun(story: Deliveries) -> dict[Partition, list[float]]:
    """The times at which a worker began with a partition, or read it again."""
    found: dict[Partition, list[float]] = defaultdict(list)
    for at, _, signal in story.evidence.signals:
        match signal:
            case PartitionsAssigned(partitions):
                for partition, _ in partitions:
                    found[partition].append(at)
            case PartitionRestarted(partition):
                found[partition].append(at)
            case _:
                pass
    return found


def _known_arrival(story: Deliveries, duty: Duty) -> Arrival | None:
    """The first arrival of a delivery, if its worker knows of it and it is no other delivery's."""
    seen = story.event_in(duty.one)
    value = duty.one.record.value or b""
    if len(story.by_value[value]) > 1 or story.copies_of(seen, duty.destination):
        return None
    if len(story.documents.members(story.documents.group(duty.destination))) > 1:
        return None
    first = next(iter(story.arrivals_of(value, duty.destination)), None)
    if first is None or first.entry.fault is not None or not first.call.is_clear or story.is_overslept(first.call):
        return None
    return first
