"""Worlds that healed, and records that stay open."""

from __future__ import annotations

import pytest

from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.core.record import Partition
from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.stats import DestinationStats, WorkerStats
from tests.simulation.oracle.evidence import WorkerEnd
from tests.simulation.oracle.settled import find_unfinished, settle_secs
from tests.simulation.oracle.told import BUS, EVENTS, ONE, TIER, WORKER, Told, delivered

_RETRY = {"retry": {TIER: 10}}


def healed() -> Told:
    told, _ = delivered(topics=_RETRY)
    told.evidence.healed_at = 2_000.0
    return told


def unfinished(told: Told) -> list[str]:
    return [violation.sentence for violation in find_unfinished(told.story)]


def report(told: Told, at: float, state: DestinationState) -> None:
    shown = [DestinationStats(ONE, state, 0, 0, 8, 0.0)]
    value = WorkerIdentity("w", "w", "h", "g", 0).record(WorkerStats(now_ms=0, destinations=shown), "h:1", []).encode()
    told.write(at, "pushrail.workers", value, host=WORKER, key=b"w")


def test_everything_settles_within_the_stated_time() -> None:
    told = healed()
    assert settle_secs(told.evidence) == 270.0
    assert unfinished(told) == []
    told.event(1_900.0, 7)
    told.commit(2_271.0, 2)
    assert unfinished(told) == [
        "the record at pushrail.events/0/1 of topic id-of-events, written at 1900.000, is not committed at 2270.000"
    ]
    told.commit(2_269.0, 2)
    told.evidence.commits.sort()
    assert unfinished(told) == []


def test_copies_settle_too() -> None:
    told = healed()
    told.copy(1_900.0, told.evidence.written[0])
    assert len(unfinished(told)) == 1
    told.commit(2_100.0, 1, TIER)
    assert unfinished(told) == []


@pytest.mark.parametrize(("calls", "expected"), [(60, 1), (320, 0)])
def test_a_log_may_end_with_copies_for_a_destination_that_works_at_its_own_limit(calls: int, expected: int) -> None:
    """The document allows one call a second, and the last 270 seconds count."""
    told = healed()
    told.evidence.edits.clear()
    told.document(limits={"maxRequestsPerSecond": 1})
    told.copy(2_990.0, told.evidence.written[0])
    told.evidence.log_ends[Partition(TIER, 0), told.evidence.written[-1].record.topic_id] = 1
    told.evidence.ended_at = 3_000.0
    for number in range(calls):
        told.call(3_000.0 - number, told.evidence.written[0])
    assert len(unfinished(told)) == expected


@pytest.mark.parametrize(("calls", "expected"), [(100, 1), (135, 0)])
def test_a_limit_that_an_operator_lowered_is_the_limit(calls: int, expected: int) -> None:
    """The document allowed two calls a second, and allows one in two seconds: 108 in the last 270 seconds are 80 %."""
    told = healed()
    told.evidence.edits.clear()
    told.document(limits={"maxRequestsPerSecond": 2})
    told.document(1_500.0, limits={"maxRequestsPerSecond": 0.5})
    told.copy(2_990.0, told.evidence.written[0])
    told.evidence.log_ends[Partition(TIER, 0), told.evidence.written[-1].record.topic_id] = 1
    told.evidence.ended_at = 3_000.0
    for number in range(calls):
        told.call(3_000.0 - 2 * number, told.evidence.written[0])
    assert len(unfinished(told)) == expected


@pytest.mark.parametrize(("reason", "calls", "expected"), [("held", 100, 1), ("held", 110, 0), ("retryable", 110, 1)])
def test_copies_that_wait_for_their_turn_are_called_between_their_delays(
    reason: str, calls: int, expected: int
) -> None:
    """The document allows one call a second. Of 270 seconds, a copy waits for 135 in memory: 80 % are 108 calls."""
    told = healed()
    assert told.evidence.settings.delivery.hold_secs == 10
    told.evidence.edits.clear()
    told.document(limits={"maxRequestsPerSecond": 1})
    told.copy(2_990.0, told.evidence.written[0], reason)
    told.evidence.log_ends[Partition(TIER, 0), told.evidence.written[-1].record.topic_id] = 1
    told.evidence.ended_at = 3_000.0
    for number in range(calls):
        told.call(3_000.0 - 2 * number, told.evidence.written[0])
    assert len(unfinished(told)) == expected


def test_a_story_that_ended_earlier_is_not_judged() -> None:
    told = healed()
    told.event(1_900.0, 7)
    told.evidence.ended_at = 2_200.0
    assert unfinished(told) == []


def test_no_healthy_destination_stays_suspended() -> None:
    told = healed()
    report(told, 2_100.0, "suspended")
    assert unfinished(told) == ["worker w still has dst_one as suspended ()"]
    told.evidence.broken_buses.add(BUS)
    assert unfinished(told) == []
    told.evidence.broken_buses.clear()
    report(told, 2_200.0, "ok")
    assert unfinished(told) == []


def test_a_worker_that_has_ended_says_nothing() -> None:
    told = healed()
    report(told, 2_100.0, "suspended")
    told.evidence.worker_ends.append(WorkerEnd(2_101.0, WORKER, "w", "killed"))
    assert unfinished(told) == []
    told.evidence.worker_ends.clear()
    told.write(2_102.0, "pushrail.workers", b"", host=WORKER, key=b"w")
    assert unfinished(told) == []


def test_the_last_commit_is_at_the_end_of_the_log() -> None:
    """Also when the log ends with the marker of a transaction."""
    told = healed()
    log = (Partition(EVENTS, 0), "id-of-events")
    told.evidence.log_ends[log] = 1
    assert unfinished(told) == []
    told.evidence.log_ends[log] = 2
    assert unfinished(told) == ["pushrail.events/0 is committed at 1, and its end is 2"]


def test_a_move_behind_a_worker_that_keeps_its_partition_is_no_lag() -> None:
    told = healed()
    told.assign(900.0, WORKER)
    told.evidence.log_ends[Partition(EVENTS, 0), "id-of-events"] = 1
    told.commit(1_500.0, 0, host="")
    assert unfinished(told) == []
    told.assign(1_600.0)
    assert unfinished(told) == ["pushrail.events/0 is committed at 0, and its end is 1"]


def test_a_suspension_may_last_until_the_next_probe() -> None:
    told = healed()
    report(told, 2_100.0, "suspended")
    told.evidence.ended_at = 2_400.0
    assert unfinished(told) == []
    told.call(2_200.0, told.evidence.written[0])
    assert len(unfinished(told)) == 1
