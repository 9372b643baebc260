"""The records of a lost log that a worker had read."""

from __future__ import annotations

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import (
    CopyFailed,
    CursorTrimmed,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
)
from tests.simulation.oracle.abandoned import find_abandoned
from tests.simulation.oracle.evidence import Disturbance, SignalSeen, WorkerEnd
from tests.simulation.oracle.told import EVENTS, ONE, TIER, WORKER, Told, delivered


def restarted(*, is_killed: bool = False) -> Told:
    """A topic is deleted when a worker has read an event and not committed it."""
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    event.gone_at = 1_010.0
    here = Partition(EVENTS, 0)
    told.evidence.signals = [
        SignalSeen(999.0, WORKER, PartitionsAssigned(((here, None),))),
        SignalSeen(1_020.0, WORKER, PartitionRestarted(here, "recreated", 2)),
    ]
    told.evidence.worker_ends.append(WorkerEnd(2_000.0, WORKER, "w", "killed" if is_killed else "stopped"))
    if is_killed:
        told.evidence.disturbances.append(Disturbance(2_000.0, 2_000.0, "killed", WORKER))
    return told


def abandoned(told: Told) -> list[str]:
    return [violation.sentence for violation in find_abandoned(told.story)]


def test_a_worker_brings_to_an_end_what_it_had_read() -> None:
    told = restarted()
    assert len(abandoned(told)) == 1
    told.copy(1_990.0, told.evidence.written[-1])
    assert abandoned(told) == []


def test_a_copy_may_be_lost_with_a_worker_that_kafka_was_out_of_reach_for() -> None:
    told = restarted()
    told.evidence.disturbances.append(Disturbance(1_900.0, 1_940.0, "kafka"))
    assert len(abandoned(told)) == 1, "it had a minute afterwards"
    told.evidence.disturbances.append(Disturbance(1_900.0, 1_980.0, "kafka"))
    assert abandoned(told) == []


def test_the_events_of_a_cursor_may_go_with_their_log() -> None:
    told = restarted()
    here = Partition(EVENTS, 0)
    for signal in (CursorTrimmed(here, "dst_two", 1, 2, 1), CursorTrimmed(here, ONE, 2, 3, 0)):
        told.evidence.signals.append(SignalSeen(1_020.0, WORKER, signal))
    assert len(abandoned(told)) == 1, "another destination, and later offsets"
    told.evidence.signals.append(SignalSeen(1_020.0, WORKER, CursorTrimmed(here, ONE, 1, 2, 1)))
    assert abandoned(told) == []


def test_events_that_were_committed_with_their_cursor_are_told_too() -> None:
    told = restarted()
    told.commit(1_004.0, 2)
    assert abandoned(told) == []
    told = restarted()
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    assert len(abandoned(told)) == 1
    told.evidence.signals.append(SignalSeen(1_020.0, WORKER, CursorTrimmed(Partition(EVENTS, 0), ONE, 1, 2, 1)))
    assert abandoned(told) == []


def test_a_failed_attempt_is_no_end() -> None:
    told = restarted()
    event = told.evidence.written[-1]
    told.attempt(1_030.0, event, status="retrying", attempt=1)
    assert len(abandoned(told)) == 1
    told.attempt(1_031.0, event, status="skipped")
    assert abandoned(told) == []


def test_partitions_that_were_lost_before_excuse_nothing() -> None:
    told = restarted()
    lost_before = PartitionsRevoked((Partition(EVENTS, 0),), lost=True, dropped=0)
    told.evidence.signals.insert(0, SignalSeen(990.0, WORKER, lost_before))
    assert len(abandoned(told)) == 1


def test_another_worker_had_what_was_lost_before() -> None:
    told = restarted()
    told.evidence.signals[0] = told.evidence.signals[0]._replace(at=1_011.0)
    assert abandoned(told) == []


def test_a_restart_before_had_the_earlier_records() -> None:
    told = restarted()
    told.evidence.signals.insert(1, told.evidence.signals[1]._replace(at=1_015.0))
    assert len(abandoned(told)) == 1


def test_a_record_that_took_the_offset_of_a_lost_one_and_was_lost_unread_is_no_duty() -> None:
    """The log was cut off twice before the worker noticed: it had read the first record of this offset."""
    told = restarted()
    first = told.evidence.written[-1]
    second = told.event(1_011.0, 8, gone_at=1_015.0)
    second.record = second.record._replace(offset=first.record.offset)
    assert len(abandoned(told)) == 1
    told.copy(1_990.0, first)
    assert abandoned(told) == []


def test_a_topic_that_came_and_went_unread_is_no_duty() -> None:
    told = restarted()
    told.copy(1_990.0, told.evidence.written[-1])
    told.event(1_011.0, 8, topic_id="id-of-a-short-life", gone_at=1_015.0)
    assert abandoned(told) == []


def test_a_copy_of_a_retry_topic_goes_on_too() -> None:
    told = restarted()
    event, here = told.evidence.written[-1], Partition(TIER, 0)
    copy = told.copy(1_005.0, event)
    assert abandoned(told) == []
    copy.gone_at = 1_010.0
    told.evidence.signals += [
        SignalSeen(999.0, WORKER, PartitionsAssigned(((here, None),))),
        SignalSeen(1_020.0, WORKER, PartitionRestarted(here, "recreated", 1)),
    ]
    assert len(abandoned(told)) == 1
    told.call(1_021.0, event)
    assert abandoned(told) == []


def test_a_killed_worker_cannot() -> None:
    assert abandoned(restarted(is_killed=True)) == []


def test_what_it_had_not_read_is_lost_by_kafka() -> None:
    told = restarted()
    told.evidence.signals[-1] = SignalSeen(1_020.0, WORKER, PartitionRestarted(Partition(EVENTS, 0), "recreated", 1))
    assert abandoned(told) == []


def test_a_worker_that_has_to_stop_while_kafka_refuses_cannot() -> None:
    told = restarted()
    record = told.evidence.written[-1].record

    def refuse(at: float, destination: str) -> None:
        copy = Copy(record=record, reason="retryable", failed_at_ms=0, problem=None, destination_id=destination)
        told.evidence.signals.append(SignalSeen(at, WORKER, CopyFailed(copy, "refused", 1.0)))

    refuse(1_950.0, ONE)
    assert len(abandoned(told)) == 1, "it gave up long before its end"
    refuse(1_990.0, "dst_two")
    assert len(abandoned(told)) == 1
    refuse(1_990.0, ONE)
    assert abandoned(told) == []
