"""Openness: the destinations for which a record had not settled at a time.

Settled: the bus took the event, Kafka held the copy, or the skip was recorded. A record of a skip comes a little later
than the commit, because the attempts log never gates a delivery.
"""

from __future__ import annotations

from bisect import bisect_right

from pushrail_stream.core.event import Undecodable
from tests.simulation.oracle.deliveries import CopySeen, Deliveries, EventSeen
from tests.simulation.oracle.evidence import Written


def open_to(story: Deliveries, one: Written, at: float) -> list[str]:
    """The destinations for which a record had not settled, for people; empty when it had."""
    if not one.is_readable:
        return []
    if one.record.topic == story.evidence.settings.topics.events:
        return _event_open_to(story, story.event_in(one), at)
    copy = story.copy_in(one)
    return [] if copy is None else _copy_open_to(story, copy, at)


def _event_open_to(story: Deliveries, seen: EventSeen, at: float) -> list[str]:
    if seen.owner is None:
        return [] if _is_copied(story, seen, None, seen.written.at, at) else ["the DLQ, as it is no canonical event"]
    certain = story.documents.certain(seen.owner, seen.written.at, at)
    return [one for one in certain if not _is_settled(story, seen, one, seen.written.at, at)]


def _copy_open_to(story: Deliveries, copy: CopySeen, at: float) -> list[str]:
    destination, seen = copy.headers.destination, story.event_of_copy(copy)
    if seen is None or destination is None or copy.written.record.value != seen.written.record.value:
        return []  # a forged copy: `copies` tells of it
    return [] if _is_settled(story, seen, destination, copy.written.at, at) else [destination]


def _is_settled(story: Deliveries, seen: EventSeen, destination: str, since: float, at: float) -> bool:
    """Whether an end is known from this time on. A skip that is recorded later, or lost with its worker, is one."""
    value = seen.written.record.value or b""
    if any(since <= arrival.at <= at for arrival in story.arrivals_of(value, destination)):
        return True
    if _is_copied(story, seen, destination, since, at):
        return True
    if any(one.get("status") == "skipped" and one.written.at >= since for one in story.said_about(seen, destination)):
        return True
    return _may_be_skipped(story, seen, destination, at)


def _is_copied(story: Deliveries, seen: EventSeen, destination: str | None, since: float, at: float) -> bool:
    """Whether Kafka took a copy in this time. The copy that was written at its beginning is the one that waits."""
    copies = story.copies_of(seen, destination)  # a backlog may be copied thousands of times, so nothing walks them
    first = bisect_right(copies, since, key=lambda copy: copy.written.at)
    return first < len(copies) and copies[first].written.at <= at


def _may_be_skipped(story: Deliveries, seen: EventSeen, destination: str, at: float) -> bool:
    """Whether a version that may have been in force did not take the event. `nothing_lost` asks for the record."""
    if seen.owner is None or isinstance(seen.event, Undecodable):
        return False
    versions = story.documents.certain(seen.owner, seen.written.at, at).get(destination)
    return versions is None or not all(version.takes(seen.event) for version in versions)
