"""Errors that nothing caught."""

from __future__ import annotations

from tests.simulation.oracle.errors import find_errors
from tests.simulation.oracle.evidence import Text, WorkerEnd
from tests.simulation.oracle.told import WORKER, Told, delivered


def errors(told: Told) -> list[str]:
    return [violation.sentence for violation in find_errors(told.story)]


def test_a_worker_that_ends_as_it_should_is_good() -> None:
    told, _ = delivered()
    told.evidence.worker_ends = [
        WorkerEnd(2_000.0, WORKER, "w", "killed"),
        WorkerEnd(2_000.0, WORKER, "w", "stopped"),
        WorkerEnd(2_000.0, WORKER, "w", "refused", "OperatorError: Kafka has no topic pushrail.dlq"),
    ]
    assert errors(told) == []


def test_a_worker_that_fails_is_found() -> None:
    told, _ = delivered()
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "failed", "KeyError: 1"))
    assert errors(told) == ["the worker on worker-1 ended at 2000.000: KeyError: 1"]


def test_an_error_of_a_task_is_found() -> None:
    told, _ = delivered()
    told.evidence.raised.append(Text(2_000.0, WORKER, "callback", "KeyError: 1"))
    assert errors(told) == ["callback of worker-1 raised at 2000.000: KeyError: 1"]


def test_a_trace_in_the_log_is_found() -> None:
    told, _ = delivered()
    told.evidence.texts.append(Text(2_000.0, WORKER, "log", "asyncio: Traceback (most recent call last): KeyError"))
    assert len(errors(told)) == 1
