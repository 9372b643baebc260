"""Each offset below a commit, and each that its metadata names as settled, had settled by then, or a cursor has it.

A cursor of the same commit may still have the event for some destinations. The commits after it keep such a cursor
until the event has settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.cursor_duties import duties_of
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, position_of
from tests.simulation.oracle.openness import open_to

ASSERTION: Final = "every offset below a commit is settled"
KEPT: Final = "a cursor keeps an event until it is settled"


def find_unsettled(story: Deliveries) -> Iterator[Violation]:
    """A violation for each record that a worker's commit covered too early."""
    for commit, one, destinations in duties_of(story).uncovered:
        if all(open_to(story, other, commit.at) for other in story.places.stand_ins(one, commit.at)):
            sentence = (
                f"{commit.host} committed {commit.partition} at {commit.committable.offset} at {commit.at:.3f}, but "
                f"the record at {position_of(one.origin)} was not settled: {', '.join(destinations)}"
            )
            yield Violation(ASSERTION, sentence, commit.at)


def find_dropped(story: Deliveries) -> Iterator[Violation]:
    """A violation for each commit without a cursor that an earlier one had, for an event that was not settled."""
    for commit, (one, destination) in duties_of(story).dropped:
        if all(open_to(story, other, commit.at) for other in story.places.stand_ins(one, commit.at)):
            sentence = (
                f"{commit.host} committed {commit.partition} at {commit.committable.offset} at {commit.at:.3f} without "
                f"a cursor for {destination} that has the record at {position_of(one.origin)}, which was not settled"
            )
            yield Violation(KEPT, sentence, commit.at)
