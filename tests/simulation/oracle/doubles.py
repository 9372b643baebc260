"""A bus of eventbridgev2 gets an event once in 300 seconds, however often it is sent, because its entry names it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from pushrail_stream.sandbox.bus.entries_v2 import DEDUPLICATION_SECS
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation

ASSERTION: Final = "a bus of eventbridgev2 keeps an event once"


def find_doubles(story: Deliveries) -> Iterator[Violation]:
    """A violation for each event that came to such a bus again within the time in which a bus knows a repeat."""
    for arrivals in story.arrivals.values():
        new = [one for one in arrivals if ":event-busv2/" in one.call.target and not one.entry.is_repeat]
        for first, second in pairwise(new):
            if first.call.target == second.call.target and second.at - first.at < DEDUPLICATION_SECS:
                sentence = f"{first.call.target} got the event {second.entry.key} at {first.at:.3f} and {second.at:.3f}"
                yield Violation(ASSERTION, sentence, second.at)
