"""Calls to destinations that throttle or are down."""

from __future__ import annotations

from typing import Final

import pytest

from pushrail_stream.core.batch import Flush
from pushrail_stream.core.outcome import Delivered, Outcome, Retryable, Throttled
from pushrail_stream.core.retry import Settled
from pushrail_stream.core.signals import RegistryChanged
from tests.simulation.oracle.evidence import SignalSeen
from tests.simulation.oracle.told import ONE, WORKER, Told
from tests.simulation.oracle.windows import calls_made, find_unslowed, most_in_flight
from tests.support.builders import destination, modified
from tests.support.signals import attempted

DELIVERED: Final = Delivered("id")
THROTTLED: Final = Throttled("ThrottlingException", "")
FAILED: Final = Retryable("ServiceUnavailable", "")
PAUSES: Final = (0.2, 0.4, 0.8, 1.6, 2.0, 2.0)


def world(most: int = 8) -> Told:
    told = Told(delivery={"max_in_flight": most})
    told.document()
    return told


def call(
    told: Told,
    begun_at: float,
    outcome: Outcome = DELIVERED,
    *,
    secs: float = 0.1,
    name: str = ONE,
    flush: Flush = "time",
) -> float:
    """A call of a worker; returns its end."""
    status = 200 if outcome == DELIVERED else 503
    made = told.call(begun_at, told.event(begun_at), status=status)
    by = modified(destination(), id=name)
    signal = attempted(
        (outcome, Settled()), destination=by, duration_secs=secs, http_status=status, request_id=made.request_id,
        flush=flush,
    )  # fmt: skip
    told.evidence.signals.append(SignalSeen(begun_at + secs, WORKER, signal))
    return begun_at + secs


def go_down(told: Told) -> float:
    """Eight calls in a row fail; returns the end of the last one."""
    return max(call(told, 1_000.0 + 0.2 * number, FAILED) for number in range(8))


def found(told: Told) -> list[str]:
    return [violation.sentence for violation in find_unslowed(told.story)]


def test_calls_in_flight_are_counted_when_one_begins() -> None:
    told = world()
    for begun_at in (1_000.0, 1_000.05, 1_000.1, 1_000.16):
        call(told, begun_at)
    (calls,) = calls_made(told.story).values()
    assert most_in_flight(calls, 0.0, 2_000.0) == 2
    assert most_in_flight(calls, 1_000.15, 2_000.0) == 2
    assert most_in_flight(calls, 1_000.2, 2_000.0) == 0


@pytest.mark.parametrize("limit", [8, 12])
def test_a_destination_that_throttled_gets_fewer_calls_for_a_minute(limit: int) -> None:
    told = world(limit)
    call(told, 1_000.0, THROTTLED)
    for number in range(limit - 1):
        call(told, 1_030.0 + number / 1_000)
    assert found(told) == []
    call(told, 1_030.05)
    (sentence,) = found(told)
    assert sentence.startswith(f"worker-1 had {limit} calls to dst_one in flight in the minute after 1000.100, when")
    assert sentence.endswith(f"{limit - 1} are allowed")
    told.document(1.0, limits={"maxInFlight": limit + 1})
    assert found(told) == []


def test_after_a_minute_it_gets_as_many_as_before() -> None:
    told = world()
    call(told, 1_000.0, THROTTLED)
    for number in range(8):
        call(told, 1_060.2 + number / 1_000)
    assert found(told) == []


def test_one_call_is_always_allowed() -> None:
    told = world(1)
    call(told, 1_000.0, THROTTLED)
    call(told, 1_010.0)
    assert found(told) == []


def test_calls_that_were_in_flight_are_no_new_ones() -> None:
    told = world()
    for number in range(7):
        call(told, 1_000.0 + number / 1_000, secs=1.0)
    call(told, 1_000.02, THROTTLED)
    told.evidence.signals.sort(key=lambda seen: seen.at)
    assert found(told) == []


def test_one_cut_answers_all_calls_that_were_sent_before() -> None:
    told = world()
    call(told, 1_000.0, FAILED)
    call(told, 1_000.05, THROTTLED)
    for number in range(8):
        call(told, 1_030.0 + number / 1_000)
    assert found(told) == []


def test_a_destination_that_is_down_gets_one_call_after_the_other() -> None:
    told = world()
    at = go_down(told)
    for pause in PAUSES:
        at = call(told, at + pause, FAILED)
    call(told, at + 2.0)
    call(told, at + 2.2)
    call(told, at + 2.21)
    assert found(told) == []


@pytest.mark.parametrize("probes", range(len(PAUSES)))
def test_a_call_that_comes_too_soon_is_found(probes: int) -> None:
    told = world()
    at = go_down(told)
    for pause in PAUSES[:probes]:
        at = call(told, at + pause, FAILED)
    call(told, at + PAUSES[probes] - 0.02)
    (sentence,) = found(told)
    assert sentence.endswith(f"it is down since 1001.500, and the next call was due at {at + PAUSES[probes]:.3f}")


def test_a_call_that_began_before_tells_nothing() -> None:
    told = world()
    call(told, 1_001.35, FAILED, secs=1.0)
    at = go_down(told)
    told.evidence.signals.sort(key=lambda seen: seen.at)
    call(told, at + 0.2)
    assert found(told) == []


def test_an_answer_begins_a_row_anew() -> None:
    told = world()
    go_down(told)
    call(told, 1_001.7)
    for number in range(7):
        call(told, 1_002.0 + number / 1_000, FAILED)
    call(told, 1_002.11)
    assert found(told) == []


def test_a_changed_document_begins_a_row_anew() -> None:
    told = world()
    at = go_down(told)
    told.evidence.signals.append(SignalSeen(at, WORKER, RegistryChanged((ONE,), (), 1, 0)))
    call(told, at + 0.02)
    assert found(told) == []


def test_a_worker_may_forget_an_outage_after_a_minute() -> None:
    told = world()
    at = go_down(told)
    for pause in (0.2, 0.4):
        at = call(told, at + pause, FAILED)
    call(told, at + 61.0, FAILED)
    call(told, at + 61.0)
    assert found(told) == []


def test_calls_that_no_server_refused_make_no_row() -> None:
    told = world()
    at = go_down(told)
    told.evidence.calls[3].status = None
    call(told, at + 0.02)
    assert found(told) == []


def test_a_region_that_is_down_has_other_rules() -> None:
    told = world()
    for name in ("dst_two", "dst_three"):
        told.document(name=name)
        call(told, 999.0, FAILED, name=name)
    at = go_down(told)
    call(told, at + 0.02)
    assert found(told) == []


def test_an_entry_sent_alone_tells_no_time() -> None:
    told = world()
    at = go_down(told)
    call(told, at + 0.02, flush="alone")
    assert found(told) == []


def test_an_operator_may_order_calls() -> None:
    told = world()
    at = go_down(told)
    call(told, at + 0.02)
    assert len(found(told)) == 1
    told.evidence.retries_asked_for = True
    assert found(told) == []
