"""No healthy customer waits longer than the stated hold because of another one.

A delivery is judged when nothing but other customers can have delayed it: all attempts at its own destination succeeded
while it waited, its customer sent no more than the destination's own rate allows, and no disturbance of hosts or Kafka
was near. Its wait begins when Kafka has the event and ends when its bus has the entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.event import Undecodable
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.signals import Attempted
from tests.simulation.oracle.calm import RECOVERY_SECS, Calm
from tests.simulation.oracle.deliveries import Deliveries, EventSeen
from tests.simulation.oracle.documents import Version
from tests.simulation.oracle.evidence import Evidence, Violation, position_of

ASSERTION: Final = "no healthy customer waits for another"
MARGIN_SECS: Final = 8.0
"""Time beyond the hold, in seconds: a batch, a sign-in, and the network's latencies."""


def find_waits(story: Deliveries) -> Iterator[Violation]:
    """A violation for each healthy delivery that took too long."""
    evidence, calm = story.evidence, Calm(story.evidence)
    most, failed_at = longest_wait(evidence), failed_attempts(story)
    for seen in story.events:
        if isinstance(seen.event, Undecodable) or not seen.written.is_readable or seen.written.gone_at is not None:
            continue
        start = seen.written.visible_at
        if start + most > evidence.ended_at or not calm.is_calm(start, start + most):
            continue
        owner = seen.event.vendor, seen.event.customer_external_id
        for destination, versions in story.documents.certain(owner, start, start + most).items():
            takes = all(version.takes(seen.event) and version.is_usable for version in versions)
            fails = any(start - RECOVERY_SECS <= at <= start + most for at in failed_at.get(destination, ()))
            if not takes or fails or len(set(versions)) > 1 or not _waited(story, seen, destination, most):
                continue
            if not _exceeds_its_rate(story, seen, versions[0]):
                yield Violation(ASSERTION, _sentence(seen, destination, most), start)


def longest_wait(evidence: Evidence) -> float:
    """The longest time that a healthy delivery may take, in seconds."""
    delivery, calls = evidence.settings.delivery, evidence.settings.eventbridge
    return delivery.hold_secs + delivery.flush_ms / 1000 + calls.call_secs + MARGIN_SECS


def failed_attempts(story: Deliveries) -> dict[str, list[float]]:
    """By destination the times of failed attempts, also of those that reached no server."""
    found: dict[str, list[float]] = {}
    for at, _, signal in story.evidence.signals:
        if isinstance(signal, Attempted) and not all(isinstance(one, Delivered) for one in signal.outcomes):
            found.setdefault(signal.destination.id, []).append(at)
    return found


def _waited(story: Deliveries, seen: EventSeen, destination: str, most: float) -> bool:
    start, value = seen.written.visible_at, seen.written.record.value or b""
    if any(start <= arrival.at <= start + most for arrival in story.arrivals_of(value, destination)):
        return False
    if any(copy.is_dead and copy.written.at <= start + most for copy in story.copies_of(seen, destination)):
        return False  # it is too large, for example
    calls = story.calls_of.get(story.documents.group(destination), ())
    return all(call.is_good for call in calls if start - RECOVERY_SECS <= call.at <= start + most)


def _exceeds_its_rate(story: Deliveries, seen: EventSeen, version: Version) -> bool:
    """Whether the customer sent more in the last minute than the destination's own rate carries within the hold.

    What exceeds the hold goes to a retry topic, and waits there although the rate may be free.
    """
    if version.per_second is None:
        return False
    delivery, until = story.evidence.settings.delivery, seen.written.visible_at
    secs = 1 / (version.per_second * delivery.max_entries)
    times = sorted(
        one.written.visible_at
        for one in story.events
        if until - RECOVERY_SECS <= one.written.visible_at <= until
        and one.written.is_readable
        and one.owner == version.owner
        and not isinstance(one.event, Undecodable)
        and version.takes(one.event)
    )
    done_at = float("-inf")
    for at in times:
        done_at = max(done_at, at) + secs
        if done_at > at + delivery.hold_secs:
            return True
    return False


def _sentence(seen: EventSeen, destination: str, most: float) -> str:
    return (
        f"the event at {position_of(seen.written.origin)}, written at {seen.written.at:.3f}, had not arrived at "
        f"{destination} after {most:.1f} s, although all calls for {destination} succeeded and nothing else failed"
    )
