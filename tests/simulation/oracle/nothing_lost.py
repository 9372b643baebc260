"""Nothing accepted is lost: each event ended at each destination that it owed.

An event that Kafka itself lost, or that an operator stepped over, owes nothing. A record of a skip may be missing where
the attempts log lost records: it never gates a delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.event import Undecodable
from tests.simulation.oracle.covers import stepped_over
from tests.simulation.oracle.deliveries import Deliveries, EventSeen
from tests.simulation.oracle.documents import Version
from tests.simulation.oracle.evidence import Violation, position_of

ASSERTION: Final = "nothing accepted is lost"


def find_lost(story: Deliveries) -> Iterator[Violation]:
    """A violation for each delivery that ended nowhere."""
    left_out = stepped_over(story.evidence)
    end = story.evidence.ended_at
    for seen in story.events:
        if not seen.written.is_readable or seen.written.gone_at is not None or id(seen.written) in left_out:
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


def _ended(story: Deliveries, seen: EventSeen, destination: str, versions: list[Version]) -> bool:
    assert not isinstance(seen.event, Undecodable)
    if any(copy.is_dead for copy in story.copies_of(seen, destination)):
        return True
    if any(said.get("status") == "skipped" for said in story.said_about(seen, destination)):
        return True
    if may_skip(seen, versions):
        return story.may_lack_attempts
    arrivals = len(story.arrivals_of(seen.event.value, destination))
    return arrivals >= _needed(story, seen, destination)


def _needed(story: Deliveries, seen: EventSeen, destination: str) -> int:
    """The arrivals that the records with the same bytes need together; those that became dead letters need none."""
    assert not isinstance(seen.event, Undecodable)
    twins = story.by_value[seen.event.value]
    needed = 0
    for twin in twins:
        if twin.written.gone_at is None and twin.written.is_readable and twin.written.at <= seen.written.at:
            ended = any(copy.is_dead for copy in story.copies_of(twin, destination))
            ended = ended or any(said.get("status") == "skipped" for said in story.said_about(twin, destination))
            needed += not ended
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
    return story.may_lack_attempts


def may_skip(seen: EventSeen, versions: list[Version]) -> bool:
    """Whether a version that may have been in force does not take the event."""
    return not isinstance(seen.event, Undecodable) and not all(one.takes(seen.event.event_type) for one in versions)


def _lost(seen: EventSeen, where: str) -> Violation:
    origin, at = position_of(seen.written.origin), seen.written.at
    return Violation(ASSERTION, f"the event at {origin}, written at {at:.3f}, never came to {where}", at)
