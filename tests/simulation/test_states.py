"""The declared states, and stories that reach them."""

from __future__ import annotations

import re

import pytest

from pushrail_stream.core import signals
from pushrail_stream.core.outcome import Delivered, Outcome, Retryable
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import Settled
from tests.simulation.oracle.evidence import CheckedDelivery, CheckRun, Disturbance, SignalSeen, WorkerEnd, Written
from tests.simulation.oracle.told import DLQ, EVENTS, ONE, WORKER, Told, delivered
from tests.simulation.states import STATES, count_states, state
from tests.support.builders import destination, modified
from tests.support.signals import attempted as call_of

HERE = Partition(EVENTS, 0)


def reached(told: Told) -> set[str]:
    return {name for name, times in count_states(told.story).items() if times}


def show(told: Told, at: float, signal: signals.Signal, host: str = WORKER) -> None:
    told.evidence.signals.append(SignalSeen(at, host, signal))


def disturb(told: Told, at: float, kind: str, until: float | None = None) -> None:
    told.evidence.disturbances.append(Disturbance(at, until or at, kind, WORKER))  # type: ignore[arg-type]


def test_at_least_thirty_states_are_declared() -> None:
    assert len(STATES) >= 30


@pytest.mark.parametrize("name", sorted(STATES))
def test_a_state_is_told_in_one_sentence(name: str) -> None:
    assert re.fullmatch(r"[A-Z].*\.", STATES[name].sentence)


def test_a_quiet_story_reaches_no_state() -> None:
    told, _ = delivered()
    assert reached(told) == set()


def test_each_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="two states named batch split"):
        state("batch split")(lambda _: 0)


def test_signals_reach_states() -> None:
    told, _ = delivered()
    show(told, 1_000.5, signals.CommitFailed("Broker: Specified group generation id is not valid"))
    show(told, 1_000.6, signals.PartitionRestarted(HERE, "recreated", 7))
    show(told, 1_000.7, signals.PartitionRestarted(HERE, "went_back", 7))
    show(told, 1_000.8, signals.Backpressure(on=True, events=1, bytes=1))
    assert reached(told) == {
        "commit refused", "commit refused with fencing", "partition read from its beginning", "partition went back",
        "buffer full",
    }  # fmt: skip


def test_calls_in_flight_meet_other_events() -> None:
    told, _ = delivered()
    show(told, 1_001.05, signals.PartitionsRevoked((HERE,), lost=True, dropped=0))
    disturb(told, 1_001.05, "paused", 1_010.0)
    told.document(1_001.05, enabled=False)
    assert reached(told) == {
        "rebalance while calls are in flight", "partitions lost", "freeze while calls are in flight",
        "document edited while calls are in flight",
    }  # fmt: skip


def test_a_probe_in_flight() -> None:
    told, _ = delivered()
    show(told, 1_000.5, signals.Suspended(modified(destination(), id=ONE), "AccessDenied", "", 30.0, first=True))
    show(told, 1_001.05, signals.PartitionsRevoked((HERE,), lost=False, dropped=0))
    assert "rebalance while a probe is in flight" in reached(told)


def test_a_kill_at_bad_moments() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.copy(1_004.0, event)
    told.call(1_004.0, event)
    disturb(told, 1_004.05, "killed")
    assert {
        "kill while calls are in flight", "kill between an arrival and its commit",
        "kill between a copy's acknowledgement and its commit",
    } <= reached(told)  # fmt: skip


def test_two_owners_at_once() -> None:
    told, event = delivered()
    told.assign(999.0, WORKER)
    told.assign(1_050.0, "worker-2")
    told.call(1_051.0, event, host="worker-2")
    assert {"two workers own a partition at once", "two workers deliver a record at once"} <= reached(told)
    show(told, 1_049.0, signals.PartitionsRevoked((HERE,), lost=False, dropped=0))
    assert "two workers own a partition at once" not in reached(told)


def test_a_worker_that_ended_owns_nothing() -> None:
    told, _ = delivered()
    told.assign(999.0, WORKER)
    told.evidence.worker_ends.append(WorkerEnd(1_049.0, WORKER, "w", "stopped"))
    told.assign(1_050.0, "worker-2")
    assert reached(told) == set()


def test_a_map_is_restored() -> None:
    told, _ = delivered()
    told.event(1_002.1, 1)
    late = told.event(1_002.2, 2)
    told.call(1_002.3, late)
    told.commit(1_002.4, 1, settled=(2,))
    signal = signals.PartitionsAssigned(((HERE, 1),))
    show(told, 1_003.0, signal, "worker-2")
    assert "map of settled offsets restored" in reached(told)


def test_logs_that_lose_records() -> None:
    told, event = delivered()
    lost = told.event(1_003.0, 7)
    told.copy(1_003.5, lost, acknowledged_at=1_005.0)
    lost.gone_at = 1_004.0
    assert reached(told) == {"truncation while copies are unacknowledged", "copy acknowledged late"}
    told.event(1_010.0, 8, topic_id="second")
    assert "topic recreated while records are in flight" in reached(told)
    assert event.gone_at is None


def test_copies_without_an_acknowledgement() -> None:
    told, event = delivered()
    told.copy(1_003.5, event, acknowledged_at=None)
    assert reached(told) == {"copy whose acknowledgement was lost"}


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("expired", "delivery expired"),
        ("suspended", "delivery refused by a suspension"),
        ("oversize", "event too large"),
        ("undecodable", "record that is no event"),
    ],
)
def test_dead_letters(reason: str, name: str) -> None:
    told, event = delivered()
    told.copy(1_003.0, event, reason)
    assert reached(told) == {name}
    assert told.evidence.written[-1].record.topic == DLQ


def test_calls_that_end_badly() -> None:
    told, event = delivered()
    lost = told.call(1_003.0, event)
    lost.answered_at = None
    told.call(1_004.0, event, is_garbled=True)
    part = told.call(1_005.0, event, told.event(1_004.9, 9))
    part.entries = (part.entries[0], part.entries[1]._replace(event_id=None))
    vanished = told.call(1_006.0, event)
    vanished.entries = (vanished.entries[0]._replace(detail=b"", fault="customer"),)
    assert reached(told) == {
        "answer lost after the entries were taken", "garbled answer", "batch taken in part",
        "event delivered to a bus that vanished",
    }  # fmt: skip


def test_windows_and_outages() -> None:
    told, _ = delivered()
    for number in range(8):
        attempted(told, 1_010.0 + number / 100, Retryable("ServiceUnavailable", ""))
    assert reached(told) == {"destination down"}
    for number in range(9):
        attempted(told, 1_030.0 + number / 100, Delivered("id"))
    assert reached(told) == {"destination down", "more calls in flight than usual"}


def attempted(told: Told, begun_at: float, outcome: Outcome) -> None:
    one = modified(destination(), id=ONE)
    show(told, begun_at + 1.0, call_of((outcome, Settled()), destination=one, duration_secs=1.0))


def test_replays_and_operators() -> None:
    told, event = delivered()
    copy = told.copy(1_003.0, event, "blocked", replay="rp-1", replay_count=1)
    told.attempt(1_004.0, event, told.evidence.calls[0], replayId="rp-1")
    told.attempt(1_004.0, event, status="skipped", reason="deleted")
    told.commit(1_005.0, 0, host="")
    told.evidence.checks.append(CheckRun(1_006.0, 1_007.0, (CheckedDelivery("pending", event.origin, ONE),)))
    told.evidence.worker_ends.append(WorkerEnd(1_008.0, WORKER, "w", "refused"))
    told.event(1_009.0)
    assert isinstance(copy, Written)
    assert reached(told) == {
        "dead letter replayed and delivered", "copy of a deleted destination", "offsets moved by a tool",
        "check while records are open", "worker refused at its start", "event repeated by its producer",
    }  # fmt: skip
