"""No healthy customer waits longer than the stated hold because of another one.

A delivery is judged when nothing but other customers can have delayed it: all calls for its own destination succeeded
while it waited, and no disturbance of hosts or Kafka was near. Its wait begins when Kafka has the event and ends when
its bus has the entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pushrail_stream.core.event import Undecodable
from tests.simulation.oracle.deliveries import Deliveries, EventSeen
from tests.simulation.oracle.evidence import Disturbance, Evidence, Violation, position_of

ASSERTION: Final = "no healthy customer waits for another"
MARGIN_SECS: Final = 8.0
"""Time beyond the hold, in seconds: a batch, a sign-in, and the network's latencies."""
RECOVERY_SECS: Final = 60.0
"""Time after a disturbance, in seconds, in which a backlog of the whole fleet may still be worked off."""


def find_waits(story: Deliveries) -> Iterator[Violation]:
    """A violation for each healthy delivery that took too long."""
    evidence = story.evidence
    most = longest_wait(evidence)
    busy = [*evidence.disturbances, *_without_workers(evidence)]
    for seen in story.events:
        if isinstance(seen.event, Undecodable) or not seen.written.is_readable or seen.written.gone_at is not None:
            continue
        start = seen.written.at
        if start + most > evidence.ended_at or _is_disturbed(busy, start, start + most):
            continue
        owner = seen.event.vendor, seen.event.customer_external_id
        for destination, versions in story.documents.certain(owner, start, start + most).items():
            takes = all(version.takes(seen.event.event_type) and version.is_usable for version in versions)
            if takes and len(set(versions)) == 1 and _waited(story, seen, destination, most):
                yield Violation(ASSERTION, _sentence(seen, destination, most), start)


def longest_wait(evidence: Evidence) -> float:
    """The longest time that a healthy delivery may take, in seconds."""
    delivery, calls = evidence.settings.delivery, evidence.settings.eventbridge
    return delivery.hold_secs + delivery.flush_ms / 1000 + calls.call_secs + MARGIN_SECS


def _waited(story: Deliveries, seen: EventSeen, destination: str, most: float) -> bool:
    start, value = seen.written.at, seen.written.record.value or b""
    if any(start <= arrival.at <= start + most for arrival in story.arrivals_of(value, destination)):
        return False
    calls = story.calls_of.get(story.documents.group(destination), ())
    return all(call.is_good for call in calls if start - RECOVERY_SECS <= call.at <= start + most)


def _is_disturbed(busy: Sequence[Disturbance], since: float, until: float) -> bool:
    return any(one.at <= until and one.until + RECOVERY_SECS >= since for one in busy)


def _without_workers(evidence: Evidence) -> list[Disturbance]:
    """A fleet that loses a worker needs a rebalance, which delays everything."""
    return [Disturbance(end.at, end.at, "start", end.host) for end in evidence.worker_ends]


def _sentence(seen: EventSeen, destination: str, most: float) -> str:
    return (
        f"the event at {position_of(seen.written.origin)}, written at {seen.written.at:.3f}, had not arrived at "
        f"{destination} after {most:.1f} s, although all calls for {destination} succeeded and nothing else failed"
    )
