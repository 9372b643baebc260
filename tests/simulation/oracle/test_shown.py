"""Workers that show a destination as it is no more."""

from __future__ import annotations

import pytest

from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.stats import DestinationStats, WorkerStats
from tests.simulation.oracle.evidence import Disturbance
from tests.simulation.oracle.shown import find_untrue_states
from tests.simulation.oracle.told import ONE, WORKER, Told, delivered


def untrue(told: Told) -> list[str]:
    return [violation.sentence for violation in find_untrue_states(told.story)]


def report(told: Told, at: float, state: DestinationState) -> None:
    shown = [DestinationStats(ONE, state, 0, 0, 8, 0.0)]
    value = WorkerIdentity("w", "w", "h", "g", 0).record(WorkerStats(now_ms=0, destinations=shown), "h:1", []).encode()
    told.write(at, "pushrail.workers", value, host=WORKER, key=b"w")


@pytest.mark.parametrize(
    ("state", "is_true"), [("ok", True), ("slowed", True), ("blocked", False), ("suspended", False)]
)
def test_a_destination_whose_last_call_succeeded_is_not_suspended(state: DestinationState, is_true: bool) -> None:  # noqa: FBT001
    told, _ = delivered()
    report(told, 1_010.0, state)
    assert (untrue(told) == []) is is_true


def test_the_record_may_be_older_than_the_call() -> None:
    told, _ = delivered()
    report(told, 1_004.0, "suspended")
    assert untrue(told) == []


def test_a_refusal_after_the_success_counts() -> None:
    told, event = delivered()
    told.refused(1_003.0, event)
    report(told, 1_010.0, "blocked")
    assert untrue(told) == []


def test_a_call_in_flight_may_have_ended_later() -> None:
    told, event = delivered()
    told.refused(1_000.5, event).answered_at = 1_003.0
    report(told, 1_010.0, "blocked")
    assert untrue(told) == []


def test_records_come_late_when_kafka_is_disturbed() -> None:
    told, _ = delivered()
    told.evidence.disturbances.append(Disturbance(980.0, 990.0, "kafka"))
    report(told, 1_010.0, "suspended")
    assert untrue(told) == []


def test_another_worker_may_see_another_state() -> None:
    told, _ = delivered()
    told.evidence.calls[0].host = "worker-2"
    report(told, 1_010.0, "suspended")
    assert untrue(told) == []
