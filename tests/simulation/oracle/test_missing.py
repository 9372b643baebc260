"""Workers that do not believe that a bus is missing, or forget it."""

from __future__ import annotations

from pushrail_stream.core.outcome import Retryable
from pushrail_stream.core.retry import RetryInMemory
from pushrail_stream.core.signals import RegistryChanged
from tests.simulation.oracle.evidence import Call, Disturbance, SignalSeen, WorkerEnd
from tests.simulation.oracle.missing import find_unbelieved, find_unwatched
from tests.simulation.oracle.told import BUS, ONE, ROLE, WORKER, Told
from tests.support.signals import attempted


def unbelieved(told: Told) -> list[str]:
    return [violation.sentence for violation in find_unbelieved(told.story)]


def unwatched(told: Told) -> list[str]:
    return [violation.sentence for violation in find_unwatched(told.story)]


def ask(told: Told, at: float, *, is_gone: bool = True) -> Call:
    code, fault = ("ResourceNotFoundException", "customer") if is_gone else ("", None)
    return told.call(at, api="DescribeEventBus", status=400 if is_gone else 200, code=code, fault=fault)


def change(told: Told, at: float) -> None:
    told.evidence.signals.append(SignalSeen(at, WORKER, RegistryChanged((ONE,), (), 1, 0)))


def swallowed(answered_at: float, status: str = "delivered") -> Told:
    """A call of 1001 s to a missing bus, answered and told then."""
    told = Told()
    told.document()
    event = told.event(1_000.0)
    call = told.call(1_001.0, event, answered_at=answered_at)
    call.entries = (call.entries[0]._replace(fault="customer"),)
    told.attempt(answered_at + 0.5, event, call, status=status)
    return told


def test_a_call_that_is_answered_first_may_be_told_as_delivered() -> None:
    told = swallowed(1_001.5)
    ask(told, 1_001.6)
    assert unbelieved(told) == []


def test_a_bus_that_is_known_to_be_missing_delivers_nothing() -> None:
    told = swallowed(1_003.0)
    ask(told, 1_001.6)
    (found,) = unbelieved(told)
    assert found.startswith(f"worker-1 told the call request-1 to {BUS} as delivered, and knew before its answer")
    blocked = swallowed(1_003.0, "dead_lettered")
    ask(blocked, 1_001.6)
    assert unbelieved(blocked) == []


def test_a_later_check_may_have_found_the_bus() -> None:
    told = swallowed(1_003.0)
    ask(told, 1_001.6)
    ask(told, 1_002.0, is_gone=False)
    assert unbelieved(told) == []


def test_a_changed_document_may_name_another_bus() -> None:
    told = swallowed(1_003.0)
    ask(told, 1_001.6)
    change(told, 1_002.0)
    assert unbelieved(told) == []


def missing(*looks: float) -> Told:
    told = Told()
    told.document()
    for at in looks:
        ask(told, at)
    told.evidence.worker_ends.append(WorkerEnd(looks[-1] + 70.0, WORKER, "w", "stopped"))
    return told


def test_a_missing_bus_is_checked_at_growing_intervals() -> None:
    assert unwatched(missing(1_000.0, 1_030.0, 1_090.0, 1_210.0, 1_450.0)) == []


def test_a_missing_bus_that_is_forgotten_is_found() -> None:
    told = missing(1_000.0, 1_030.0)
    told.evidence.worker_ends.clear()
    (found,) = unwatched(told)
    assert found == f"worker-1 found {BUS} missing at 1030.100, and did not look again by 1165.100"
    told.evidence.worker_ends.append(WorkerEnd(1_165.0, WORKER, "w", "killed"))
    assert unwatched(told) == []


def test_a_bus_that_was_found_is_not_looked_for() -> None:
    told = missing(1_000.0, 1_030.0)
    ask(told, 1_090.0, is_gone=False)
    told.evidence.worker_ends.clear()
    assert unwatched(told) == []


def test_a_sign_in_that_is_refused_is_a_look() -> None:
    told = missing(1_000.0)
    for at in (1_031.0, 1_062.0, 1_093.0):
        told.call(at, api="AssumeRole", target=ROLE, status=403, fault="customer", code="AccessDenied")
    assert unwatched(told) == []


def test_a_changed_document_ends_the_search() -> None:
    told = missing(1_000.0)
    told.evidence.worker_ends.clear()
    change(told, 1_020.0)
    assert unwatched(told) == []


def test_a_worker_that_is_paused_does_not_look() -> None:
    told = missing(1_000.0)
    told.evidence.worker_ends.clear()
    told.evidence.disturbances.append(Disturbance(1_020.0, 1_080.0, "paused", WORKER))
    assert unwatched(told) == []


def test_a_check_may_have_reached_no_server() -> None:
    told = missing(1_000.0)
    told.evidence.worker_ends[:] = [WorkerEnd(1_200.0, WORKER, "w", "stopped")]
    assert len(unwatched(told)) == 1
    failed = attempted((Retryable("ConnectTimeout", ""), RetryInMemory(1.0, "retryable")), http_status=None)
    told.evidence.signals.append(SignalSeen(900.0, WORKER, failed))
    assert unwatched(told) == []
