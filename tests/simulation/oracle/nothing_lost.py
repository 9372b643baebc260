"""Nothing accepted is lost: each event ended at each destination that it owed.

An event that Kafka itself lost, or that an operator stepped over, owes nothing, nor does a delivery whose cursor a tool
has cleared. A record of a skip may be missing where
the attempts log lost records: it never gates a delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.event import Undecodable
from tests.simulation.oracle.cursor_duties import duties_of
from tests.simulation.oracle.deliveries import Deliveries, EventSeen
from tests.simulation.oracle.documents import Version
from tests.simulation.oracle.evidence import Violation, Written, position_of
from tests.simulation.oracle.settled import is_at_limit, is_waiting, may_wait, settle_secs

ASSERTION: Final = "nothing accepted is lost"


def find_lost(story: Deliveries) -> Iterator[Violation]:
    """A violation for each delivery that ended nowhere."""
    end = story.evidence.ended_at
    for seen in story.events:
        if story.is_stepped_over(seen.written) or not _is_owed(story, seen.written):
            continue
        if isinstance(seen.event, Undecodable):
            if not story.copies_of(seen, None):
                yield loss(seen, "the DLQ, as it is no canonical event")
            continue
        owner = seen.event.vendor, seen.event.customer_external_id
        certain = story.documents.certain(owner, seen.written.at, end)
        for destination, versions in certain.items():
            if not _ended(story, seen, destination, versions) and not _waits_at_limit(story, seen, destination):
                yield loss(seen, destination)
        if not certain and not _ended_somewhere(story, seen, owner):
            yield loss(seen, "any destination")


def _is_owed(story: Deliveries, one: Written) -> bool:
    """Whether an event must have ended by now. `settled` asks for those whose commits are late."""
    is_over = story.covered_at(one) <= story.evidence.ended_at
    is_over = is_over or one.at < story.evidence.ended_at - settle_secs(story.evidence)
    return is_over and one.is_readable and one.gone_at is None


def _waits_at_limit(story: Deliveries, seen: EventSeen, destination: str) -> bool:
    """Whether a copy or a cursor still has it, because its destination works at the customer's own limit."""
    copies = (copy for copy in story.copies_of(seen, destination) if is_waiting(story, copy))
    if any(may_wait(story, destination, copy.headers.reason) for copy in copies):
        return True
    return _is_on_cursor(story, seen, destination) and is_at_limit(story, destination)


def _is_on_cursor(story: Deliveries, seen: EventSeen, destination: str) -> bool:
    """Whether a cursor has the delivery when the story ends."""
    return duties_of(story).waits(seen.written, destination)


def _owes_no_arrival(story: Deliveries, seen: EventSeen, destination: str) -> bool:
    """Whether a tool gave the delivery up, or a cursor has it and the story ended too early for it.

    `settled` asks for the cursors that stay too long.
    """
    if duties_of(story).is_given_up(seen.written, destination):
        return True
    return _is_on_cursor(story, seen, destination) and _is_late(story, seen.written)


def _is_late(story: Deliveries, one: Written) -> bool:
    return one.at > story.evidence.ended_at - settle_secs(story.evidence)


def _ended(story: Deliveries, seen: EventSeen, destination: str, versions: list[Version]) -> bool:
    assert not isinstance(seen.event, Undecodable)
    copies = [copy.written for copy in story.copies_of(seen, destination) if not copy.is_dead]
    if len(copies) < len(story.copies_of(seen, destination)):
        return True
    if any(_is_excused(story, copy) for copy in copies):
        return True
    if any(said.get("status") == "skipped" for said in story.said_about(seen, destination)):
        return True
    if may_skip(seen, versions) and _may_lack_skip(story, seen):
        return True
    if _owes_no_arrival(story, seen, destination):
        return True
    arrivals = len(story.arrivals_of(seen.event.value, destination))
    return arrivals >= _needed(story, seen, destination)


def _is_excused(story: Deliveries, copy: Written) -> bool:
    """Whether Kafka lost a retry copy, or it still waits, so that no arrival is owed for it."""
    return _kafka_lost(story, copy) or _goes_on(story, copy)


def _goes_on(story: Deliveries, one: Written) -> bool:
    """Whether a retry copy waits when the story ends. `settled` asks for those that wait too long."""
    waits = story.covered_at(one) == float("inf")
    return waits and _is_late(story, one)


def _kafka_lost(story: Deliveries, one: Written) -> bool:
    """Whether Kafka lost a copy before a commit covered it, as in an unclean election."""
    return one.gone_at is not None and one.gone_at <= story.covered_at(one)


def _needed(story: Deliveries, seen: EventSeen, destination: str) -> int:
    """The arrivals that the records with the same bytes need together.

    Those that became dead letters need none, nor do those that an operator stepped over, that wait at a limit, or
    whose retry copy is excused.
    """
    assert not isinstance(seen.event, Undecodable)
    twins = story.by_value[seen.event.value]
    needed = 0
    for twin in twins:
        if twin.written.gone_at is None and twin.written.is_readable and twin.written.at <= seen.written.at:
            copies = story.copies_of(twin, destination)
            ended = any(copy.is_dead or _is_excused(story, copy.written) for copy in copies)
            ended = ended or any(said.get("status") == "skipped" for said in story.said_about(twin, destination))
            ended = ended or _waits_at_limit(story, twin, destination) or _owes_no_arrival(story, twin, destination)
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
        if destination is None:
            continue
        if story.arrivals_of(seen.written.record.value or b"", destination):
            return True
        if duties_of(story).is_given_up(seen.written, destination):
            return True
    return _may_lack_skip(story, seen)


def _may_lack_skip(story: Deliveries, seen: EventSeen) -> bool:
    """Whether the record of a skip may be lost with the worker that committed the event."""
    commit = story.covered_by.get(id(seen.written))
    return commit is not None and story.may_lack_attempts(commit.at, commit.host)


def may_skip(seen: EventSeen, versions: list[Version]) -> bool:
    """Whether a version that may have been in force does not take the event."""
    return not isinstance(seen.event, Undecodable) and not all(one.takes(seen.event) for one in versions)


def loss(seen: EventSeen, where: str) -> Violation:
    """The violation of an event that never came somewhere."""
    origin, at = position_of(seen.written.origin), seen.written.at
    return Violation(ASSERTION, f"the event at {origin}, written at {at:.3f}, never came to {where}", at)
