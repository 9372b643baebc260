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

_ANSWERED: Final = 200
"""The HTTP status of an answer with one result for each entry."""
_GOES_ON: Final = RetryInMemory(0.0, "retryable")
"""The step of an entry whose batch takes another call. A throttled entry goes back to its lane, also with no pause."""
_Place = tuple[str, str, Origin]
"""A worker, a destination, and the position of an event."""


class _Sent(NamedTuple):
    """A call of a batch."""

    at: float
    """The time at which its batch left."""
    destination: Destination
    """The document as the call used it."""


class _Batch(NamedTuple):
    """A batch that takes another call."""

    left_at: float
    """The time at which it left its lane."""
    places: tuple[_Place, ...]
    """The places of its entries."""


def find_old_versions(story: Deliveries) -> Iterator[Violation]:
    """A violation for each worker whose calls changed to another version with no change of documents in between.

    The call before was then made by an old version: it left after the change that brought the new one.
    """
    changes: dict[tuple[str, str], list[float]] = defaultdict(list)
    sent: dict[tuple[str, str], list[_Sent]] = defaultdict(list)
    begun: dict[_Place, _Batch] = {}
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


def _left_at(begun: dict[_Place, _Batch], at: float, host: str, signal: Attempted) -> float:
    """The time at which the batch of a call left its lane. A batch may take several calls, one right after another.

    The next call is made with the same entries, or with one of them alone. Entries for which no time was left go to a
    retry topic without a word, and leave in a new batch.
    """
    places = tuple([(host, signal.destination.id, entry.origin) for entry in signal.entries])
    earlier = [begun.pop(place) for place in places if place in begun]
    batches = [batch for batch in earlier if signal.flush == "alone" or batch.places == places]
    left_at = min([batch.left_at for batch in batches], default=at - signal.duration_secs)
    steps = zip(places, signal.decisions, strict=True)
    begun.update({place: _Batch(left_at, places) for place, step in steps if step == _GOES_ON})
    if signal.http_status != _ANSWERED and any(step != _GOES_ON for step in signal.decisions):
        # The bus did not answer: the entries that were not sent yet go back to the lane, and leave in a new batch.
        for place in {place for batch in batches for place in batch.places}:
            begun.pop(place, None)
    return left_at
