"""Workers show a destination as it is: none stays suspended after its bus took a call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.observe.worker_record import WorkerRecord
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Evidence, Violation
from tests.simulation.oracle.periods import Periods

ASSERTION: Final = "a worker shows a destination as it is"
_LATE_SECS: Final = 5.0
"""Longest time in seconds between the making of a worker's record and Kafka's having it, when nothing is disturbed."""
_REST_SECS: Final = 60.0
"""Time in seconds after a disturbance in which records may come late."""
_CALL_SECS: Final = 60.0
"""Longest time in seconds for which a call may be in flight."""


def find_untrue_states(story: Deliveries) -> Iterator[Violation]:
    """A violation for each destination that a worker shows as blocked or suspended after its last call succeeded."""
    evidence, late = story.evidence, _late_periods(story.evidence)
    for one in evidence.on(evidence.settings.topics.workers):
        state = WorkerRecord.read(one.record.value or b"")
        for shown in () if state is None or one.at in late else state.destinations:
            if shown.state not in {"blocked", "suspended"}:
                continue
            group, reader = story.documents.group(shown.id), story.reader(one.host, one.at, one.at)
            if len(story.documents.members(group)) > 1 or story.documents.was_unusable(shown.id, one.at, reader):
                continue
            calls = [call for call in story.calls_of.get(group, ()) if call.host == one.host and call.at < one.at]
            good = _last_good(calls, one.at - _LATE_SECS)
            if good is not None and not _failed_since(calls, good):
                sentence = (
                    f"{one.host} shows {shown.id} as {shown.state} at {one.at:.3f}, although its bus took the call "
                    f"{good.request_id} and refused none after that"
                )
                yield Violation(ASSERTION, sentence, one.at)


def _late_periods(evidence: Evidence) -> Periods:
    """The periods in which a worker's record may come late."""
    busy = [(one.at, one.until) for one in evidence.disturbances if one.kind in {"kafka", "log", "paused"}]
    if evidence.has_kafka_weather:
        busy.append((0.0, evidence.healed_at))
    return Periods((since, until + _REST_SECS) for since, until in busy)


def _last_good(calls: list[Call], until: float) -> Call | None:
    good = [call for call in calls if call.api == "PutEvents" and call.is_good and (call.answered_at or until) < until]
    return max(good, key=lambda call: call.answered_at or call.at, default=None)


def _failed_since(calls: list[Call], good: Call) -> bool:
    """Whether a call failed that may have ended after the good one."""
    answered_at = good.answered_at or good.at
    return any(
        not call.is_good and call.at > answered_at - _CALL_SECS and (call.answered_at or answered_at) >= answered_at
        for call in calls
    )
