"""The number of a partition's log changes when Kafka may have lost records."""

from __future__ import annotations

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.pipeline.known_logs import KnownLogs
from tests.support.records import P0, P1


def test_a_number_stays_until_a_leader_or_an_assignment_changes() -> None:
    trackers = {P0: OffsetTracker(), P1: OffsetTracker()}
    logs = KnownLogs(trackers)
    first = logs.numbers()
    assert logs.numbers() == first == {P0: logs.number(P0), P1: logs.number(P1)}
    assert first[P0] != first[P1]
    trackers[P0].meet_epoch(5, 10)
    assert logs.numbers()[P0] > first[P0]
    assert logs.number(P1) == first[P1]
    trackers[P1] = OffsetTracker()
    assert logs.number(P1) != first[P1]


def test_a_partition_that_comes_back_has_another_number() -> None:
    trackers = {P0: OffsetTracker()}
    logs = KnownLogs(trackers)
    tracker, first = trackers[P0], logs.number(P0)
    del trackers[P0]
    assert logs.number(P0) is None
    assert logs.numbers() == {}
    trackers[P0] = tracker
    assert logs.number(P0) != first
