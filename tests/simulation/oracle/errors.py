"""Nothing raises out of a port, a task or a callback, and no worker ends with an error that is not an operator's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation

ASSERTION: Final = "nothing raises out of a port"
_TRACE: Final = "Traceback (most recent call last)"


def find_errors(story: Deliveries) -> Iterator[Violation]:
    """A violation for each error that nothing caught."""
    for text in story.evidence.raised:
        yield Violation(ASSERTION, f"{text.where} of {text.host} raised at {text.at:.3f}: {text.text}", text.at)
    for end in story.evidence.worker_ends:
        if end.how == "failed":
            yield Violation(ASSERTION, f"the worker on {end.host} ended at {end.at:.3f}: {end.problem}", end.at)
    for text in story.evidence.texts:
        if _TRACE in text.text:
            yield Violation(ASSERTION, f"{text.where} of {text.host} has a trace: {text.text[-400:]}", text.at)
