"""A changed document holds from the next batch on: a worker that has it sends nothing by the version before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.record import Origin
from pushrail_stream.core.retry import RetryInMemory
from pushrail_stream.core.signals import Attempted, RegistryChanged
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation

ASSERTION: Final = "a changed document holds from the next batch on"

_AT_ONCE_SECS: Final = 0.001
"""Time in seconds within which a worker acts on a change after it has told of it: in the same moment."""
_EARLY_SECS: Final = 1.0
"""Longest time in seconds by which a new version may be used before its worker tells of the change."""


class _Sent(NamedTuple):
    """A call of a batch."""

    at: float
    """The time at which its batch left."""
    destination: Destination
    """The document as the call used it."""


def find_old_versions(story: Deliveries) -> Iterator[Violation]:
    """A violation for each worker whose calls changed to another version with no change of documents in between.

    The call before was then made by an old version: it left after the change that brought the new one.
    """
    changes: dict[tuple[str, str], list[float]] = defaultdict(list)
    sent: dict[tuple[str, str], list[_Sent]] = defaultdict(list)
    begun: dict[tuple[str, str, Origin], float] = {}
    for at, host, signal in story.evidence.signals:
        if isinstance(signal, RegistryChanged):
            for destination_id in (*signal.put, *signal.removed):
                changes[host, destination_id].append(at)
        elif isinstance(signal, Attempted):
            place = host, signal.destination.id
            sent[place].append(_Sent(_left_at(begun, at, host, signal), signal.destination))
    for (host, destination_id), made in sent.items():
        if (old := _old_one(made, changes[host, destination_id])) is not None:
            sentence = f"{host} called {destination_id} by an old document at {old.at:.3f}, and had the new one before"
            yield Violation(ASSERTION, sentence, old.at)


def _old_one(made: list[_Sent], changes: list[float]) -> _Sent | None:
    """A batch that left after a change by another version than a later one did before the next change."""
    times = [*changes, float("inf")]
    for changed_at, next_at in pairwise(times):
        between = [one for one in made if changed_at + _AT_ONCE_SECS < one.at < next_at - _EARLY_SECS]
        between.sort(key=lambda one: one.at)
        if old := next((one for one in between if one.destination != between[-1].destination), None):
            return old
    return None


def _left_at(begun: dict[tuple[str, str, Origin], float], at: float, host: str, signal: Attempted) -> float:
    """The time at which the batch of a call left its lane. A batch may take several calls, one right after another."""
    places = [(host, signal.destination.id, entry.origin) for entry in signal.entries]
    left_at = min([begun[place] for place in places if place in begun], default=at - signal.duration_secs)
    for place, entry in zip(places, signal.entries, strict=True):
        begun.pop(place, None)
        if isinstance(entry.decision, RetryInMemory) and entry.decision.delay_secs == 0.0:
            begun[place] = left_at
    return left_at
