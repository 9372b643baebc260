"""Repeats with a cause, and repeats without one."""

from __future__ import annotations

import pytest

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import CommitFailed, KafkaTrouble, PartitionRestarted, PartitionsRevoked
from tests.simulation.oracle.evidence import Disturbance, DisturbanceKind, SignalSeen, WorkerEnd, Written
from tests.simulation.oracle.repeats import find_repeats
from tests.simulation.oracle.told import EVENTS, TIER, WORKER, Told, delivered


def repeats(told: Told) -> list[str]:
    return [violation.sentence for violation in find_repeats(told.story)]


def arrived() -> tuple[Told, Written]:
    """An event that arrived once, and is not committed yet."""
    told = Told()
    told.document()
    event = told.event(1_000.0)
    told.assign(999.0, WORKER)
    told.call(1_001.0, event)
    told.assign(1_004.0)
    told.evidence.worker_ends.append(WorkerEnd(9_000.0, WORKER, WORKER, "stopped"))
    return told, event


def disturb(told: Told, kind: DisturbanceKind, at: float, until: float | None = None, host: str = WORKER) -> None:
    told.evidence.disturbances.append(Disturbance(at, at if until is None else until, kind, host))


def test_a_repeat_needs_a_cause() -> None:
    told, event = arrived()
    assert repeats(told) == []
    told.call(1_005.0, event)
    (found,) = repeats(told)
    assert found.startswith("the event at pushrail.events/0/0 of topic id-of-events to dst_one: written 1000.000")


def test_a_dead_letter_after_an_arrival_is_a_repeat() -> None:
    told, event = arrived()
    told.copy(1_005.0, event, "blocked")
    assert len(repeats(told)) == 1


def test_a_lost_answer_allows_one_more() -> None:
    told, event = arrived()
    told.evidence.calls[0].answered_at = None
    told.call(1_005.0, event)
    assert repeats(told) == []
    told.call(1_006.0, event)
    assert len(repeats(told)) == 1


@pytest.mark.parametrize("kind", ["killed", "expelled", "kafka", "commit"])
def test_a_worker_that_was_lost_allows_what_it_had_not_committed(kind: DisturbanceKind) -> None:
    told, event = arrived()
    disturb(told, kind, 1_002.0)
    told.call(1_005.0, event, host="worker-2")
    assert repeats(told) == []


def test_a_commit_before_the_loss_allows_nothing() -> None:
    told, event = arrived()
    told.commit(1_001.5, 1)
    disturb(told, "killed", 1_002.0)
    told.call(1_005.0, event, host="worker-2")
    assert len(repeats(told)) == 1


def leave_partition(told: Told, at: float, *, lost: bool) -> None:
    """The worker gives the partition up, and no other worker gets it."""
    signal = PartitionsRevoked((Partition(EVENTS, 0),), lost=lost, dropped=0)
    told.evidence.signals[1:] = [SignalSeen(at, WORKER, signal)]


def test_a_copy_that_kafka_did_not_take_before_the_partition_left_is_repeated_once() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    told.assign(999.0, WORKER)
    leave_partition(told, 1_006.0, lost=False)
    told.assign(1_007.0)
    told.call(1_008.0, event, host="worker-2")
    told.assign(1_015.0, WORKER)
    told.copy(1_020.0, event)
    told.call(1_031.0, event)
    assert len(repeats(told)) == 1
    disturb(told, "kafka", 1_001.0, 1_015.0)
    assert repeats(told) == []
    told.call(1_032.0, event)
    assert len(repeats(told)) == 1


def test_an_end_in_flight_when_the_partition_was_lost_is_repeated_once() -> None:
    told, event = arrived()
    leave_partition(told, 1_000.5, lost=True)
    told.assign(1_000.6, WORKER)
    told.copy(1_005.0, event, "suspended")
    assert repeats(told) == []
    told.copy(1_006.0, event, "suspended")
    assert len(repeats(told)) == 1


def test_each_loss_of_the_partition_may_leave_an_act_in_flight() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    for number in range(3):
        told.assign(999.0 + 10 * number, WORKER)
        lost = PartitionsRevoked((Partition(EVENTS, 0),), lost=True, dropped=0)
        told.evidence.signals.append(SignalSeen(1_008.0 + 10 * number, WORKER, lost))
    told.assign(1_029.0, WORKER)
    told.evidence.worker_ends.append(WorkerEnd(9_000.0, WORKER, WORKER, "stopped"))
    for number in range(4):
        told.copy(1_030.0 + number, event, "suspended")
    assert repeats(told) == []
    told.copy(1_034.0, event, "suspended")
    assert len(repeats(told)) == 1


def test_an_act_is_in_flight_at_one_loss() -> None:
    told, event = arrived()
    told.event(1_000.0)
    told.evidence.worker_ends += [WorkerEnd(9_000.0, "worker-2", "worker-2", "stopped")]
    leave_partition(told, 1_002.0, lost=True)
    told.assign(1_002.5, WORKER)
    told.copy(1_005.0, event, "suspended")
    told.call(1_080.0, event)
    told.call(1_081.0, event)
    assert repeats(told) == []
    told.call(1_082.0, event)
    assert len(repeats(told)) == 1


def test_the_next_owner_may_have_a_partition_before_its_loss_is_known() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    told.assign(999.0, WORKER)
    lost = SignalSeen(1_006.0, WORKER, PartitionsRevoked((Partition(EVENTS, 0),), lost=True, dropped=0))
    told.assign(1_005.0, "worker-2")
    told.evidence.signals.append(lost)
    told.copy(1_005.5, event, "rejected", host="worker-2")
    told.commit(1_007.0, 1)
    told.assign(1_015.0, WORKER)
    told.copy(1_020.0, event, "rejected")
    told.evidence.worker_ends += [WorkerEnd(9_000.0, name, name, "stopped") for name in (WORKER, "worker-2")]
    assert repeats(told) == []
    told.copy(1_021.0, event, "rejected")
    assert len(repeats(told)) == 1
    told.evidence.written.pop()
    told.commit(1_004.0, 1)
    told.evidence.commits.sort(key=lambda commit: commit.at)
    assert len(repeats(told)) == 1, "the next owner knew that the record was settled"


def test_an_end_after_a_loss_needs_a_record_from_before_it() -> None:
    told, event = arrived()
    leave_partition(told, 999.5, lost=True)
    told.copy(1_005.0, event, "suspended")
    assert len(repeats(told)) == 1


def test_a_settled_offset_above_the_commit_allows_nothing() -> None:
    told, event = arrived()
    told.commit(1_001.5, 0, settled=(0,))
    disturb(told, "killed", 1_002.0)
    told.call(1_005.0, event, host="worker-2")
    assert len(repeats(told)) == 1


def test_a_map_for_which_the_brokers_have_no_room_allows_one_more() -> None:
    told, event = arrived()
    told.commit(1_002.0, 0, settled=(0,))
    told.commit(1_010.0, 0, host="worker-2")
    told.assign(1_020.0, "worker-3")
    told.call(1_021.0, event, host="worker-3")
    assert len(repeats(told)) == 1, "worker-2 forgot it without need"
    small = KafkaTrouble("offset.metadata.max.bytes of the broker is small: commits are made shorter")
    told.evidence.signals.append(SignalSeen(1_009.0, "worker-3", small))
    assert len(repeats(told)) == 1, "worker-2 was not told so"
    told.evidence.signals.append(SignalSeen(1_009.0, "worker-2", small))
    assert repeats(told) == []
    told.call(1_022.0, event, host="worker-3")
    assert len(repeats(told)) == 1


def test_the_loss_of_another_worker_allows_nothing() -> None:
    told, event = arrived()
    disturb(told, "killed", 1_002.0, host="worker-2")
    told.call(1_005.0, event, host="worker-3")
    assert len(repeats(told)) == 1


def test_a_loss_before_the_arrival_allows_nothing() -> None:
    told, event = arrived()
    disturb(told, "killed", 900.0)
    told.call(1_005.0, event)
    assert len(repeats(told)) == 1


def test_a_copy_whose_acknowledgement_was_lost_is_written_again() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    first = told.copy(1_001.0, event, acknowledged_at=None)
    told.copy(1_002.0, event)
    told.call(1_012.0, event)
    told.call(1_013.0, event)
    assert repeats(told) == []
    first.acknowledged_at = 1_001.1
    assert len(repeats(told)) == 1


def test_a_copy_that_was_not_committed_comes_again() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    told.copy(1_001.0, event)
    told.commit(1_002.0, 1)
    told.call(1_012.0, event)
    disturb(told, "killed", 1_013.0)
    told.assign(1_014.0, topic=TIER)
    told.call(1_030.0, event, host="worker-2")
    assert repeats(told) == []
    told.assign(1_014.0)
    assert repeats(told) == []
    told.commit(1_012.5, 1, TIER)
    assert len(repeats(told)) == 1


def test_a_handover_without_a_disturbance_allows_nothing() -> None:
    """Workers that stop, and that give partitions up, commit what has settled."""
    told, event = arrived()
    told.call(1_005.0, event, host="worker-2")
    assert len(repeats(told)) == 1


def test_a_partition_that_stays_is_not_read_again() -> None:
    told, event = arrived()
    told.evidence.signals.pop()
    disturb(told, "killed", 1_002.0)
    told.call(1_005.0, event)
    assert len(repeats(told)) == 1


def test_a_worker_that_is_told_of_its_loss_late_may_repeat() -> None:
    told, event = arrived()
    revoked = PartitionsRevoked((Partition(EVENTS, 0),), lost=True, dropped=0)
    told.call(1_005.0, event, host="worker-2")
    told.evidence.signals.append(SignalSeen(1_010.0, WORKER, revoked))
    assert repeats(told) == []


def test_a_worker_whose_last_commit_failed_may_repeat() -> None:
    told, event = arrived()
    told.call(1_005.0, event, host="worker-2")
    told.evidence.signals.append(SignalSeen(1_003.0, WORKER, CommitFailed("the coordinator is away")))
    assert repeats(told) == []


def test_a_frozen_worker_may_write_its_dead_letter_late() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    told.assign(999.0, WORKER)
    told.assign(1_060.0, "worker-2")
    told.copy(1_061.0, event, "blocked", host="worker-2")
    told.copy(1_070.0, event, "blocked")
    told.evidence.worker_ends += [WorkerEnd(9_000.0, name, name, "stopped") for name in (WORKER, "worker-2")]
    assert len(repeats(told)) == 1
    disturb(told, "paused", 1_001.0, 1_069.0)
    assert repeats(told) == []


def test_an_entry_that_vanished_may_become_a_dead_letter() -> None:
    told, event = arrived()
    call = told.evidence.calls[0]
    told.copy(1_001.2, event, "blocked")
    assert len(repeats(told)) == 1
    call.entries = (call.entries[0]._replace(fault="customer", detail=b""),)
    assert repeats(told) == []


def test_a_partition_that_lost_records_is_read_again() -> None:
    told, event = arrived()
    told.commit(1_002.0, 1)
    told.call(1_005.0, event)
    told.evidence.signals.append(SignalSeen(1_004.0, WORKER, PartitionRestarted(Partition(EVENTS, 0), "went_back", 7)))
    assert len(repeats(told)) == 1
    disturb(told, "log", 900.0, host="")
    assert repeats(told) == []


def test_a_frozen_worker_may_deliver_late() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0)
    told.assign(999.0, WORKER)
    told.assign(1_060.0, "worker-2")
    told.call(1_061.0, event, host="worker-2")
    told.commit(1_062.0, 1)
    told.call(1_070.0, event)
    assert len(repeats(told)) == 1
    disturb(told, "paused", 1_001.0, 1_069.0)
    assert repeats(told) == []


def test_twins_may_arrive_each() -> None:
    told, _ = arrived()
    twin = told.event(1_003.0)
    told.call(1_005.0, twin)
    assert repeats(told) == []


def test_an_operator_may_move_the_group_back() -> None:
    told, event = arrived()
    told.commit(1_002.0, 1)
    told.evidence.disturbances.append(Disturbance(1_003.0, 1_003.0, "operator", "", Partition(EVENTS, 0)))
    told.call(1_005.0, event)
    assert repeats(told) == []
    told.call(1_006.0, event)
    assert len(repeats(told)) == 1


def test_a_replay_allows_one_more() -> None:
    told, event = arrived()
    told.commit(1_002.0, 1)
    told.copy(1_003.0, event, host="office", replay="rp-1", replay_count=1)
    told.call(1_014.0, event)
    assert repeats(told) == []
    told.call(1_015.0, event)
    assert len(repeats(told)) == 1


def test_a_worker_that_was_stopped_beyond_its_time_out_sends_again() -> None:
    told, event = delivered()
    told.call(1_031.0, event)
    assert len(repeats(told)) == 1
    told.evidence.commits[0] = told.evidence.commits[0]._replace(at=1_001.04)
    disturb(told, "paused", 1_001.05, 1_020.0)
    assert repeats(told) == []
    told.call(1_041.0, event)
    assert len(repeats(told)) == 1


@pytest.mark.parametrize(("paused_until", "expected"), [(1_001.9, 1), (1_002.1, 0)])
def test_a_worker_that_was_stopped_beyond_its_hold_sends_again(paused_until: float, expected: int) -> None:
    """Its event was written at 1,000, and the hold is 2 seconds."""
    told, event = delivered(delivery={"hold_secs": 2})
    told.evidence.commits[0] = told.evidence.commits[0]._replace(at=1_001.04)
    told.call(1_011.0, event)
    disturb(told, "paused", 1_001.05, paused_until)
    assert len(repeats(told)) == expected
