"""A worker that was told that a bus does not exist believes it, and looks again until it exists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from pushrail_stream.core.outcome import Retryable
from pushrail_stream.core.pacing import PROBES
from pushrail_stream.core.signals import Attempted, RegistryChanged
from tests.simulation.oracle.buses import is_gone
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Violation

ASSERTION: Final = "a missing bus is believed and looked for"
_AT_ONCE_SECS: Final = 0.05
"""Time in seconds within which a worker has read an answer."""
_MARGIN_SECS: Final = 15.0
"""Time in seconds for a sign-in, and for a turn to ask."""
_UNREACHABLE_SECS: Final = 300.0
"""Longest time in seconds for which no server may be reached, so that a check leaves no trace."""


class _Place(NamedTuple):
    host: str
    group: str


def find_unbelieved(story: Deliveries) -> Iterator[Violation]:
    """A violation for each call that was told as delivered, although its bus was found missing before its answer."""
    told = {said.get("requestId") for said in story.attempts if said.get("status") == "delivered"}
    changes = _changes(story)
    for place, calls in _calls(story).items():
        checks = [call for call in calls if call.api == "DescribeEventBus"]
        for call in calls:
            if call.request_id not in told or not any(entry.is_swallowed for entry in call.entries):
                continue
            until = (call.answered_at or call.at) - _AT_ONCE_SECS
            before = [one for one in checks if (one.answered_at or one.at) < until]
            last = max(before, key=lambda one: one.answered_at or one.at, default=None)
            if last is None or not is_gone(last) or any(last.at <= at <= until for at in changes[place]):
                continue
            sentence = (
                f"{place.host} told the call {call.request_id} to {call.target} as delivered, and knew before its "
                "answer that the bus does not exist"
            )
            yield Violation(ASSERTION, sentence, call.at)


def find_unwatched(story: Deliveries) -> Iterator[Violation]:
    """A violation for each missing bus that a worker does not look for again in time."""
    changes = _changes(story)
    more = _UNREACHABLE_SECS if _was_unreachable(story) else 0.0
    for place, calls in _calls(story).items():
        ends = _ends_of(story, place.host)
        looks = [call for call in calls if call.api in {"DescribeEventBus", "AssumeRole"}]
        found = 0
        for look, following in pairwise([*looks, None]):
            assert look is not None
            found = found + 1 if is_gone(look) else found if look.api == "AssumeRole" and found else 0
            at = look.answered_at or look.at
            until = at + 2 * PROBES.pause_secs(found) + _MARGIN_SECS + more
            is_late = found and until < (ends if following is None else min(ends, following.at))
            if is_late and not any(look.at <= one <= until for one in changes[place]):
                sentence = (
                    f"{place.host} found {look.target} missing at {at:.3f}, and did not look again by {until:.3f}"
                )
                yield Violation(ASSERTION, sentence, until)


def _calls(story: Deliveries) -> dict[_Place, list[Call]]:
    """The calls of each worker for a destination that shares its bus with no other."""
    found: dict[_Place, list[Call]] = defaultdict(list)
    for group, calls in story.calls_of.items():
        for call in calls if len(story.documents.members(group)) == 1 else ():
            found[_Place(call.host, group)].append(call)
    return found


def _changes(story: Deliveries) -> dict[_Place, list[float]]:
    """The times at which a worker told of a changed document, after which it may know nothing of the bus."""
    found: dict[_Place, list[float]] = defaultdict(list)
    for at, host, signal in story.evidence.signals:
        if isinstance(signal, RegistryChanged):
            for destination in (*signal.put, *signal.removed):
                found[_Place(host, story.documents.group(destination))].append(at)
    return found


def _ends_of(story: Deliveries, host: str) -> float:
    """The time at which a worker ended, or was stopped for a while."""
    evidence = story.evidence
    ends = [end.at for end in evidence.worker_ends if end.host == host]
    ends += [one.at for one in evidence.disturbances if one.kind == "paused" and one.host == host]
    return min(ends, default=evidence.ended_at)


def _was_unreachable(story: Deliveries) -> bool:
    """Whether calls failed before they reached a server."""
    return any(
        isinstance(signal, Attempted) and signal.http_status is None and isinstance(signal.outcomes[0], Retryable)
        for _, _, signal in story.evidence.signals
    )
