"""A destination that is behind is called again and again: a cursor is served until nothing is left of it.

A pause between two calls is judged when a cursor has an event all the time, nothing but other customers can have
caused the pause, and the destination's own calls succeed before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.simulation.oracle.calm import RECOVERY_SECS, Calm
from tests.simulation.oracle.cursor_duties import Duty, duties_of
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, position_of
from tests.simulation.oracle.isolation import failed_attempts, longest_wait
from tests.simulation.oracle.openness import open_to

ASSERTION: Final = "a destination that is behind is served"


def find_starving(story: Deliveries) -> Iterator[Violation]:
    """A violation for each destination with a cursor that gets no call for too long."""
    taken: dict[str, list[tuple[float, Duty]]] = {}
    for at, duty in duties_of(story).taken:
        taken.setdefault(duty.destination, []).append((at, duty))
    calm, failed_at = Calm(story.evidence), failed_attempts(story)
    for destination, some in taken.items():
        for since, until in _pauses(story, destination, some[0][0]):
            fails = any(since - RECOVERY_SECS <= at <= until for at in failed_at.get(destination, ()))
            if fails or not calm.is_calm(since, until) or not _is_usable(story, destination, since, until):
                continue
            waits = next((duty for at, duty in some if at <= since and _is_open(story, duty, until)), None)
            if waits is not None:
                sentence = (
                    f"{destination} got no call from {since:.3f} to {until:.3f}, although a cursor had the event at "
                    f"{position_of(waits.one.origin)}"
                )
                yield Violation(ASSERTION, sentence, since)


def _pauses(story: Deliveries, destination: str, begun_at: float) -> Iterator[tuple[float, float]]:
    """The long pauses between two calls, from the first cursor on, before which the calls succeeded."""
    most = longest_wait(story.evidence)
    calls = [call for call in story.calls_of.get(story.documents.group(destination), ()) if call.api == "PutEvents"]
    times = [begun_at, *(call.at for call in calls if call.at > begun_at), story.evidence.ended_at]
    for since, until in pairwise(sorted(times)):
        if until - since > most and all(call.is_good for call in calls if since - RECOVERY_SECS <= call.at <= until):
            yield since, since + most


def _is_usable(story: Deliveries, destination: str, since: float, until: float) -> bool:
    versions = [one for one in story.documents.versions() if one.destination == destination]
    owners = {one.owner for one in versions}
    certain = [story.documents.certain(owner, since, until).get(destination) for owner in sorted(owners)]
    return any(found and all(one.is_enabled and one.is_usable for one in found) for found in certain)


def _is_open(story: Deliveries, duty: Duty, at: float) -> bool:
    one, destination = duty
    is_there = one.gone_at is None or one.gone_at > at
    return is_there and not duties_of(story).is_given_up(one, destination) and destination in open_to(story, one, at)
