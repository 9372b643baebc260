"""Suspensions, and calls that are no probes."""

from __future__ import annotations

from pushrail_stream.core.signals import RegistryChanged, Resumed, Suspended
from tests.simulation.oracle.evidence import SignalSeen, Written
from tests.simulation.oracle.probes import find_wrong_probes
from tests.simulation.oracle.told import ONE, WORKER, Told
from tests.support.builders import destination, modified

HERE = modified(destination(), id=ONE)


def wrong(told: Told) -> list[str]:
    return [violation.sentence for violation in find_wrong_probes(told.story)]


def suspend(told: Told, at: float, probe_in_secs: float = 30.0, *, first: bool = True) -> None:
    signal = Suspended(HERE, "AccessDenied", "", probe_in_secs, first)
    told.evidence.signals.append(SignalSeen(at, WORKER, signal))


def world() -> Told:
    told = Told(delivery={"max_in_flight": 8})
    told.document()
    return told


def test_probes_come_when_they_are_due() -> None:
    told = world()
    for number, secs in enumerate((30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0)):
        suspend(told, 1_000.0 * number, secs, first=not number)
    assert wrong(told) == []


def test_a_probe_that_comes_late_is_found() -> None:
    told = world()
    suspend(told, 1_000.0)
    suspend(told, 1_030.0, 120.0, first=False)
    assert wrong(told) == ["worker-1 probes dst_one in 120 s at 1030.000, not 60 s"]


def test_a_suspended_destination_gets_single_entries() -> None:
    told = world()
    events = [told.event(1_000.0, number) for number in range(2)]
    suspend(told, 1_001.0)
    told.call(1_001.5, *events)
    told.call(1_031.0, events[0])
    assert wrong(told) == [], "the first call was on its way"
    told.call(1_040.0, *events)
    assert wrong(told) == ["worker-1 sent 2 entries to dst_one at 1040.000, which is suspended"]
    told.evidence.signals.append(SignalSeen(1_032.0, WORKER, Resumed(HERE, 31.0)))
    assert wrong(told) == []


def test_a_destination_that_refuses_everything_is_not_called_on() -> None:
    told = world()
    event = told.event(1_000.0)
    for number in range(26):
        told.refused(1_001.0 + number / 10, event)
    assert wrong(told) == []
    told.refused(1_003.7, event)
    (found,) = wrong(told)
    assert found == "worker-1 goes on to call dst_one at 1003.700, after 26 refusals in a row"


def test_probes_and_successes_between_refusals_are_good() -> None:
    told = world()
    event = told.event(1_000.0)
    for number in range(60):
        told.refused(1_001.0 + 30 * number, event)
    for number in range(60):
        told.refused(4_001.0 + number / 10, event)
        if number % 20 == 0:
            told.call(4_001.0 + number / 10, event)
    assert wrong(told) == []


def suspended_after(told: Told, event: Written) -> None:
    """Ten refused calls in a row, the last of them at 1010 s, and a probe of two calls."""
    for number in range(10):
        told.refused(1_001.0 + number, event)
    for at in (1_041.0, 1_042.0, 1_102.0):
        told.refused(at, event)


def test_a_suspended_destination_is_called_only_by_probes() -> None:
    told = world()
    event = told.event(1_000.0)
    suspended_after(told, event)
    assert wrong(told) == []
    told.refused(1_115.0, event)
    assert wrong(told) == ["worker-1 calls dst_one at 1115.000, shortly after the last probe, although it refuses all"]


def test_a_success_ends_a_suspension() -> None:
    told = world()
    event = told.event(1_000.0)
    suspended_after(told, event)
    told.call(1_110.0, event)
    told.refused(1_115.0, event)
    assert wrong(told) == []


def test_a_changed_document_is_tried_at_once() -> None:
    told = world()
    event = told.event(1_000.0)
    suspended_after(told, event)
    told.evidence.signals.append(SignalSeen(1_110.0, WORKER, RegistryChanged((ONE,), (), 1, 0)))
    told.refused(1_115.0, event)
    assert wrong(told) == []


def test_an_operator_may_ask_for_probes() -> None:
    told = world()
    event = told.event(1_000.0)
    suspended_after(told, event)
    told.refused(1_115.0, event)
    told.evidence.retries_asked_for = True
    assert wrong(told) == []
    told.evidence.retries_asked_for = False
    told.copy(1_120.0, event, host="office", replay="rp-1", replay_count=1)
    assert wrong(told) == []
