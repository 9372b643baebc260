"""Calls by an old version of a document."""

from __future__ import annotations

import pytest

from pushrail_stream.core.destination import Destination, Limits
from pushrail_stream.core.outcome import Delivered, Retryable, Throttled
from pushrail_stream.core.retry import Decision, RetryInMemory, RetryOnTopic, Settled, Tier
from pushrail_stream.core.signals import RegistryChanged
from tests.simulation.oracle.evidence import SignalSeen
from tests.simulation.oracle.told import ONE, WORKER, Told
from tests.simulation.oracle.versions import find_old_versions
from tests.support.builders import destination, modified
from tests.support.records import record
from tests.support.signals import attempted, changed

OLD = modified(destination(), id=ONE)
NEW = modified(OLD, limits=Limits(2.0))
LATER = RetryInMemory(2.0, "retryable")


def old(told: Told) -> list[str]:
    return [violation.sentence for violation in find_old_versions(told.story)]


def call(
    told: Told,
    at: float,
    by: Destination,
    offset: int = 0,
    *,
    again: bool = False,
    secs: float = 0.1,
    flush: str = "time",
) -> None:
    """A call that ends at this time. ``again``: another call of the same batch follows."""
    outcome = Retryable("ExpiredToken", "") if again else Delivered("id")
    decision = RetryInMemory(0.0, "retryable") if again else Settled()
    signal = attempted((outcome, decision), destination=by, duration_secs=secs, flush=flush)
    signal = changed(signal, record=record(offset))
    told.evidence.signals.append(SignalSeen(at, WORKER, signal))


def change(told: Told, at: float) -> None:
    told.evidence.signals.append(SignalSeen(at, WORKER, RegistryChanged((ONE,), (), 1, 0)))


def world() -> Told:
    told = Told()
    change(told, 500.0)
    call(told, 900.0, OLD)
    change(told, 1_000.0)
    return told


def test_a_change_holds_from_the_next_batch_on() -> None:
    told = world()
    call(told, 1_010.0, NEW)
    call(told, 1_020.0, NEW)
    assert old(told) == []


def test_a_batch_by_the_version_before_is_found() -> None:
    told = world()
    call(told, 1_010.0, OLD)
    call(told, 1_020.0, NEW)
    assert old(told) == ["worker-1 called dst_one by an old document at 1009.900, and had the new one before"]


def test_a_call_in_flight_keeps_its_version() -> None:
    told = world()
    call(told, 1_002.0, OLD, secs=2.5)
    call(told, 1_020.0, NEW)
    assert old(told) == []


def test_the_next_call_of_a_batch_keeps_its_version() -> None:
    told = world()
    told.evidence.signals.pop()
    call(told, 999.9, OLD, 5, again=True)
    change(told, 1_000.0)
    call(told, 1_002.0, OLD, 5)
    call(told, 1_020.0, NEW, 6)
    assert old(told) == []


def pair(told: Told, at: float, by: Destination) -> None:
    """A call of two entries that is refused for one of them: each is sent alone."""
    refused = Retryable("ValidationException", ""), RetryInMemory(0.0, "retryable")
    told.evidence.signals.append(SignalSeen(at, WORKER, attempted(refused, refused, destination=by, duration_secs=0.1)))


def split(told: Told, status: int | None, step: Decision = LATER) -> None:
    """A call of two entries is made again with the first entry alone, and that call fails."""
    pair(told, 1_001.0, OLD)
    failed = Retryable("InternalFailure", "")
    alone = attempted((failed, step), destination=OLD, duration_secs=0.1, http_status=status, flush="alone")
    told.evidence.signals.append(SignalSeen(1_001.1, WORKER, alone))


def test_a_batch_ends_when_the_bus_does_not_answer() -> None:
    """Its entries leave later, in another batch, by the new version."""
    told = world()
    split(told, None)
    change(told, 1_010.0)
    pair(told, 1_012.0, NEW)
    assert old(told) == []


@pytest.mark.parametrize(
    "step", [RetryInMemory(0.0, "throttled"), RetryOnTopic(Tier("pushrail.retry.10s", 10.0), "held")]
)
def test_a_batch_ends_when_its_call_is_throttled_or_its_hold_is_over(step: Decision) -> None:
    told = world()
    split(told, 400, step)
    change(told, 1_010.0)
    pair(told, 1_012.0, NEW)
    assert old(told) == []


def test_a_throttled_entry_leaves_in_another_batch() -> None:
    """The entry may be sent again at once, and waits in its lane for its turn."""
    told = world()
    throttled = Throttled("ThrottlingException", ""), RetryInMemory(0.0, "throttled")
    first = attempted(throttled, destination=OLD, duration_secs=0.0, http_status=400)
    told.evidence.signals.append(SignalSeen(1_001.0, WORKER, first))
    change(told, 1_010.0)
    call(told, 1_012.0, NEW)
    assert old(told) == []


def test_a_batch_goes_on_when_the_bus_refuses_an_entry_for_now() -> None:
    told = world()
    told.evidence.signals.pop()
    change(told, 1_000.0)
    split(told, 200)
    change(told, 1_001.15)
    call(told, 1_002.5, OLD, 1, flush="alone")
    call(told, 1_020.0, NEW, 6)
    assert old(told) == []


def test_an_entry_for_which_a_split_batch_had_no_time_leaves_in_another_batch() -> None:
    told = world()
    split(told, 200)
    change(told, 1_010.0)
    call(told, 1_012.0, NEW, 1)
    assert old(told) == []


def test_a_new_version_may_be_used_just_before_its_worker_tells_of_it() -> None:
    told = world()
    call(told, 1_010.0, OLD)
    call(told, 1_029.9, NEW)
    change(told, 1_030.0)
    call(told, 1_040.0, NEW)
    assert old(told) == []
