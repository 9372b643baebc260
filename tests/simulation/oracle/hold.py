"""No delivery holds its partition's commit longer than the stated hold: what has not settled by then moves on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.calm import Calm
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, position_of

ASSERTION: Final = "no delivery holds its partition's commit longer than the hold"
MARGIN_SECS: Final = 5.0
"""Time beyond the hold, in seconds: a poll, a copy's way to Kafka, and the second between two commits."""


def find_held(story: Deliveries) -> Iterator[Violation]:
    """A violation for each event that was committed too late while nothing of hosts or Kafka was disturbed."""
    evidence, calm = story.evidence, Calm(story.evidence)
    most = evidence.settings.delivery.hold_secs + evidence.settings.delivery.flush_ms / 1000 + MARGIN_SECS
    for seen in story.events:
        one = seen.written
        if not one.is_readable or one.gone_at is not None or one.at + most > evidence.ended_at:
            continue
        covered_at = story.covered_at(one)
        if covered_at > one.at + most and calm.is_calm(one.at, one.at + most):
            sentence = (
                f"the event at {position_of(one.origin)}, written at {one.at:.3f}, was committed at {covered_at:.3f}, "
                f"and not within {most:.1f} s"
            )
            yield Violation(ASSERTION, sentence, one.at)
