"""Calls to a region that is down."""

from __future__ import annotations

from typing import Final

from pushrail_stream.core.outcome import Delivered, Outcome, Retryable
from pushrail_stream.core.retry import Settled
from pushrail_stream.core.signals import RegistryChanged
from tests.simulation.oracle.evidence import SignalSeen
from tests.simulation.oracle.regions import find_crowded_regions
from tests.simulation.oracle.told import ONE, WORKER, Told
from tests.support.builders import destination, modified
from tests.support.signals import attempted

FAILED: Final = Retryable("ServiceUnavailable", "")
NAMES: Final = (ONE, "dst_two", "dst_three")
SECS: Final = 0.05


def call(told: Told, begun_at: float, name: str = ONE, outcome: Outcome = FAILED) -> None:
    made = told.call(begun_at, told.event(begun_at), status=503 if outcome == FAILED else 200)
    by, status = modified(destination(), id=name), made.status
    signal = attempted(
        (outcome, Settled()), destination=by, duration_secs=SECS, http_status=status, request_id=made.request_id
    )
    told.evidence.signals.append(SignalSeen(begun_at + SECS, WORKER, signal))


def down(*names: str) -> Told:
    """Each of these destinations has failed eight times by 1,001.57."""
    told = Told()
    for number in range(8):
        for name in names:
            call(told, 1_000.0 + 0.2 * number + 0.06 * names.index(name), name)
    return told


def found(told: Told) -> list[str]:
    return [violation.sentence for violation in find_crowded_regions(told.story)]


def test_one_probe_serves_all_destinations() -> None:
    told = down(*NAMES)
    call(told, 1_002.0, ONE)
    call(told, 1_002.2, "dst_two")
    assert found(told) == []
    call(told, 1_002.3, "dst_three")
    (sentence,) = found(told)
    assert sentence.startswith(
        "worker-1 called destinations of EVENTBRIDGE in us-east-1 at 1002.200 and 1002.300; the region is down"
    )
    assert sentence.endswith("since 1001.570, and one probe serves all that have failed")


def test_two_destinations_make_no_region() -> None:
    told = down(*NAMES[:2])
    call(told, 1_002.0, ONE)
    call(told, 1_002.1, "dst_two")
    assert found(told) == []


def test_a_destination_that_has_not_failed_makes_its_calls() -> None:
    told = down(*NAMES)
    call(told, 1_002.0, ONE)
    call(told, 1_002.01, "dst_four")
    call(told, 1_002.02, "dst_four")
    assert found(told) == []
    call(told, 1_002.1, "dst_four")
    assert len(found(told)) == 1


def test_an_answer_ends_it() -> None:
    told = down(*NAMES)
    call(told, 1_002.0, ONE)
    call(told, 1_002.1, "dst_four", Delivered("id"))
    call(told, 1_002.16, "dst_two")
    assert found(told) == []


def test_a_changed_document_ends_it() -> None:
    told = down(*NAMES)
    call(told, 1_002.0, ONE)
    told.evidence.signals.append(SignalSeen(1_002.06, WORKER, RegistryChanged((ONE,), (), 1, 0)))
    call(told, 1_002.1, "dst_two")
    assert found(told) == []


def test_a_worker_may_forget_it_after_a_minute() -> None:
    told = down(*NAMES)
    call(told, 1_060.0, ONE)
    call(told, 1_060.1, "dst_two")
    assert found(told) == []


def test_an_operator_may_order_calls() -> None:
    told = down(*NAMES)
    call(told, 1_002.0, ONE)
    call(told, 1_002.1, "dst_two")
    told.evidence.retries_asked_for = True
    assert found(told) == []
