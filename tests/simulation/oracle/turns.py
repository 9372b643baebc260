"""A delivery that only waits for its turn climbs no retry topic: its destination takes others meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.deliveries import CopySeen, Deliveries
from tests.simulation.oracle.evidence import Call, Violation, position_of

ASSERTION: Final = "a delivery that waits for its turn climbs no retry topic"
_TAKING_SECS: Final = 1.0
"""Time in seconds since its last delivery for which a destination surely takes others: a worker allows 2 or more."""
_FAILING_SECS: Final = 10.0
"""Time in seconds after a failure in which the worker may take the destination for one that is down."""
_INSTANT_SECS: Final = 0.01
"""Time in seconds within which it is uncertain whether an answer came before or after the copy."""
_THROTTLED: Final = "ThrottlingException"


def find_climbed(story: Deliveries) -> Iterator[Violation]:
    """A violation for each copy of a delivery that waited for its turn, on another retry topic than the first."""
    evidence, topics = story.evidence, story.evidence.retry_topics
    removed_at = min((one.at for one in evidence.disturbances if one.kind == "log"), default=float("inf"))
    for copy in story.copies:
        written, headers = copy.written, copy.headers
        if copy.is_dead or headers.reason not in {"held", "throttled"} or written.record.topic == topics[0]:
            continue
        at = headers.failed_at_ms / 1000 - evidence.epoch
        # The last topic keeps the events that Kafka may soon remove.
        if not story.is_workers(written) or at >= removed_at or story.had_wrong_clock(written.host):
            continue
        if (call := _last_answer(story, copy, at)) is not None and not _may_be_down(story, written.host, at):
            sentence = (
                f"the copy at {position_of(written.origin)}, of {position_of(headers.origin)} to "
                f"{headers.destination}, waited for its turn at {at:.3f}: the bus took an entry at {call.at:.3f}"
            )
            yield Violation(ASSERTION, sentence, written.at)


def _last_answer(story: Deliveries, copy: CopySeen, at: float) -> Call | None:
    """A call with a delivery whose answer the copy's worker had a moment before; None when there is none."""
    group = story.documents.group(copy.headers.destination or "")
    if len(story.documents.members(group)) > 1:
        return None  # another destination of the same bus may have made the call
    return next(
        (
            call
            for call in reversed(story.calls_of.get(group, ()))
            if call.host == copy.written.host
            and call.api == "PutEvents"
            and call.is_clear
            and call.entries_taken
            and at - _TAKING_SECS <= (call.answered_at or 0.0) <= at - _INSTANT_SECS
        ),
        None,
    )


def _may_be_down(story: Deliveries, host: str, at: float) -> bool:
    """Whether a call of the worker has failed of late, or the worker stood still."""
    since = at - _FAILING_SECS
    failed = (call.host == host and since <= call.at <= at and _has_failed(call) for call in story.evidence.calls)
    return any(failed) or any(
        one.kind == "paused" and one.host == host and one.at <= at and one.until >= since
        for one in story.evidence.disturbances
    )


def _has_failed(call: Call) -> bool:
    """Whether a call has failed, for another reason than throttling."""
    is_refused = any(entry.fault == "customer" for entry in call.entries)
    return not call.is_clear or is_refused or (call.status != 200 and call.code != _THROTTLED)
