"""Accounts that do not balance."""

from __future__ import annotations

from typing import Any

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionsRevoked
from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.stats import WorkerStats
from tests.simulation.oracle.accounting import find_imbalance
from tests.simulation.oracle.evidence import Disturbance, SignalSeen, WorkerEnd
from tests.simulation.oracle.told import EVENTS, WORKER, Told, delivered

LEDGER = {
    "begun": 1,
    "delivered": 1,
    "dead_lettered": 0,
    "moved_to_retry": 0,
    "skipped": 0,
    "put_back": 0,
    "dropped": 0,
}
COUNTS = {
    "begun": 5, "delivered": 2, "deadLettered": 0, "movedToRetry": 1, "skipped": 0, "putBack": 0, "dropped": 0,
    "inFlight": 2,
}  # fmt: skip


def imbalance(told: Told) -> list[str]:
    return [violation.sentence for violation in find_imbalance(told.story)]


def report(told: Told, at: float, **counts: int) -> None:
    """A worker writes its record."""
    state = WorkerIdentity("w", "w", "h", "g", 0).record(WorkerStats(now_ms=0), "h:1", [])
    value = state.__class__(**{**fields_of(state), "deliveries": COUNTS | counts}).encode()
    told.write(at, "pushrail.workers", value, host=WORKER, key=b"w")


def fields_of(state: Any) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__struct_fields__}


def ended(**columns: int) -> list[str]:
    told, _ = delivered()
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=LEDGER | columns))
    return imbalance(told)


def test_records_that_balance_are_good() -> None:
    told, _ = delivered()
    report(told, 1_003.0)
    report(told, 1_004.0, delivered=3, inFlight=1)
    assert imbalance(told) == []


def test_a_delivery_that_ended_twice_is_found() -> None:
    told, _ = delivered()
    report(told, 1_003.0, delivered=3)
    assert imbalance(told) == ["worker w reported at 1003.000: 5 begun, 4 ended and 2 in flight"]


def test_a_negative_column_is_found() -> None:
    told, _ = delivered()
    report(told, 1_003.0, delivered=6, movedToRetry=1, inFlight=-2)
    assert imbalance(told) == ["worker w reported at 1003.000: inFlight below 0"]


def test_a_column_never_goes_down() -> None:
    told, _ = delivered()
    report(told, 1_003.0)
    report(told, 1_004.0, delivered=1, inFlight=3)
    assert imbalance(told) == ["worker w reported at 1004.000: delivered went down"]


def test_the_last_ledger_equals_what_the_world_saw() -> None:
    assert ended() == []
    assert ended(begun=2, delivered=2) == ["worker w ended at 2000.000: delivered is 2, and the world saw 1"]
    assert ended(begun=2) == ["worker w ended at 2000.000: 1 deliveries in flight"]
    assert ended(begun=2, moved_to_retry=1) == ["worker w ended at 2000.000: moved_to_retry is 1, and the world saw 0"]


def test_an_answer_that_was_lost_is_no_delivery() -> None:
    told, _ = delivered()
    told.evidence.calls[0].answered_at = None
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=LEDGER))
    assert len(imbalance(told)) == 1


def test_a_copy_without_an_acknowledgement_may_count_or_not() -> None:
    told, event = delivered()
    told.copy(1_500.0, event, acknowledged_at=None)
    for moved in (0, 1):
        ledger = LEDGER | {"begun": 1 + moved, "moved_to_retry": moved}
        told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=ledger))
    assert imbalance(told) == []


def test_a_copy_that_kafka_took_after_the_last_partitions_were_given_back_may_count_or_not() -> None:
    told, event = delivered()
    told.copy(1_500.0, event, "blocked")
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=LEDGER | {"begun": 1}))
    assert imbalance(told) == ["worker w ended at 2000.000: dead_lettered is 0, and the world saw 1"]
    revoked = PartitionsRevoked((Partition(EVENTS, 0),), lost=False, dropped=0)
    told.evidence.signals.append(SignalSeen(1_400.0, WORKER, revoked))
    assert imbalance(told) == []
    told.evidence.signals.append(SignalSeen(1_600.0, WORKER, revoked))
    assert len(imbalance(told)) == 1


def test_a_garbled_answer_may_count_or_not() -> None:
    told, _ = delivered()
    told.evidence.calls[0].is_garbled = True
    for taken in (0, 1):
        ledger = LEDGER | {"begun": taken, "delivered": taken}
        told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=ledger))
    assert imbalance(told) == []


def test_a_worker_that_slept_beyond_the_time_out_may_count_an_answer_or_not() -> None:
    told, _ = delivered()
    told.evidence.disturbances.append(Disturbance(1_000.5, 1_010.0, "paused", WORKER))
    for counted in (0, 1, 2):
        ledger = LEDGER | {"begun": counted, "delivered": counted}
        told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=ledger))
    assert imbalance(told) == ["worker w ended at 2000.000: delivered is 2, and the world saw 1"]


def test_a_trouble_of_kafka_may_leave_copies_unwritten() -> None:
    told, _ = delivered()
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=LEDGER | {"begun": 2}))
    assert len(imbalance(told)) == 1
    told.evidence.disturbances.append(Disturbance(1_900.0, 1_950.0, "kafka"))
    assert imbalance(told) == []


def test_a_worker_may_count_a_swallowed_entry_as_a_dead_letter() -> None:
    told, event = delivered()
    told.copy(1_002.0, event, "blocked", error_code="EventBusNotFound")
    ledger = LEDGER | {"delivered": 0, "dead_lettered": 1}
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "stopped", ledger=ledger))
    assert len(imbalance(told)) == 1
    call = told.evidence.calls[0]
    call.entries = (call.entries[0]._replace(fault="customer"),)
    assert imbalance(told) == []
