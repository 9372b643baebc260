"""Limits that were exceeded."""

from __future__ import annotations

from pushrail_stream.core.record import Partition
from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.stats import PartitionStats, WorkerStats
from tests.simulation.oracle.buffers import ONE_POLL, find_excess
from tests.simulation.oracle.evidence import METRICS_PAGE, Text
from tests.simulation.oracle.told import EVENTS, WORKER, Told, delivered


def excess(told: Told) -> list[str]:
    return [violation.sentence for violation in find_excess(told.story)]


def report(told: Told, held: int) -> None:
    one = PartitionStats(Partition(EVENTS, 0), held, 0, None, None, 0.0)
    stats = WorkerStats(now_ms=0, partitions={"events": [one]})
    value = WorkerIdentity("w", "w", "h", "g", 0).record(stats, "h:1", []).encode()
    told.write(1_003.0, "pushrail.workers", value, host=WORKER, key=b"w")


def test_a_buffer_may_exceed_its_limit_by_one_poll() -> None:
    told, _ = delivered(limits={"max_buffered_events": 100})
    report(told, 100 + ONE_POLL)
    assert excess(told) == []
    report(told, 101 + ONE_POLL)
    assert excess(told) == ["worker w held 1101 events at 1003.000; its limit is 100"]


def test_bytes_may_exceed_their_limit_by_one_poll() -> None:
    told, event = delivered(limits={"max_buffered_mib": 1})
    most = 2**20 + len(event.record.value or b"")
    for held in (most, most + 1):
        page = f'pushrail_buffered_bytes{{of="events"}} {held}\npushrail_buffered_bytes{{of="retries"}} 9999999\n'
        told.evidence.texts.append(Text(1_003.0, WORKER, METRICS_PAGE, page))
    assert excess(told) == [f"worker-1 held {most + 1} bytes of events at 1003.000; its limit is 1048576"]


def test_a_call_is_not_larger_than_the_setting() -> None:
    told, _ = delivered(delivery={"max_entries": 2})
    events = [told.event(1_003.0, number) for number in range(3)]
    told.call(1_004.0, *events[:2])
    assert excess(told) == []
    told.call(1_005.0, *events)
    assert excess(told) == ["the call request-4 had 3 entries"]


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    told, event = delivered(delivery={"max_in_flight": 2})
    for _ in range(2):
        told.call(1_010.0, event, answered_at=1_011.0)
    assert excess(told) == []
    told.call(1_010.5, event, answered_at=1_011.0)
    (found,) = excess(told)
    assert found == "worker-1 had 3 calls to dst_one at 1010.500; 2 are allowed"
    told.document(1.0, limits={"maxInFlight": 3})
    assert excess(told) == []


def test_calls_keep_the_rate_of_the_document() -> None:
    told = Told()
    told.document(limits={"maxRequestsPerSecond": 2})
    event = told.event(1_000.0)
    for number in range(40):
        told.call(1_001.0 + number / 2, event)
    assert excess(told) == []
    for number in range(10):
        told.call(1_030.0 + number / 10, event)
    assert excess(told) == []
    for number in range(20):
        told.call(1_031.0 + number / 10, event)
    (found,) = excess(told)
    assert found.endswith("; 2 a second are allowed")
