"""No delivery holds its partition's commit longer than the stated hold: what has not settled by then moves on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.signals import Attempted
from tests.simulation.oracle.calm import Calm
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, position_of

ASSERTION: Final = "no delivery holds its partition's commit longer than the hold"
_SHORTEST_SECS: Final = 2.0
"""Time in seconds that every call gets, also when its deliveries have waited for almost the hold."""
_CUT_SECS: Final = 1.0
"""Time in seconds until a call that is cut off has ended."""
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


def find_long_calls(story: Deliveries) -> Iterator[Violation]:
    """A violation for each call that went on when the hold of its deliveries was over."""
    evidence = story.evidence
    most = max(_SHORTEST_SECS, evidence.settings.delivery.hold_secs) + _CUT_SECS
    paused = [one for one in evidence.disturbances if one.kind == "paused"]
    for at, host, signal in evidence.signals:
        if not isinstance(signal, Attempted) or signal.duration_secs <= most:
            continue
        begun_at = at - signal.duration_secs
        if not any(one.host == host and one.at <= at and one.until >= begun_at for one in paused):
            sentence = (
                f"{host} waited {signal.duration_secs:.1f} s for an answer of {signal.destination.id} at {at:.3f}, "
                f"and not at most {most:.1f} s"
            )
            yield Violation(ASSERTION, sentence, at)
