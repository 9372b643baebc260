"""The fleet at a glance: the states of all living workers put together, those in need first."""

from __future__ import annotations

from typing import Any

from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.observe.worker_record import (
    LOST_SECS,
    BacklogSummary,
    DestinationSummary,
    PartitionSummary,
    WorkerRecord,
)
from pushrail_stream.operations.fleet import Fleet, FleetWorker
from pushrail_stream.operations.top import Overview, overview

NOW_MS = 1_800_000_000_000


def seen(name: str, state: DestinationState = "ok", **more: Any) -> DestinationSummary:
    return DestinationSummary(name, state, **({"waiting": 0, "calls": 0, "max_calls": 8, "per_second": 0.0} | more))


def worker(name: str, *destinations: DestinationSummary, age_secs: float = 1.0, **more: Any) -> FleetWorker:
    facts: dict[str, Any] = {
        "reasons": [], "deliveries": {}, "totals": {}, "lag": {}, "partitions": [], "partition_count": 0,
        "group": "group",
    }  # fmt: skip
    state = WorkerRecord(
        id=name, name="pushrail-stream", host="host", http="host:9464", version="1", started_at=1,
        at=NOW_MS, destinations=destinations, **(facts | more),
    )  # fmt: skip
    return FleetWorker(state, age_secs)


def view(*workers: FleetWorker, unreadable: int = 0) -> Overview:
    return overview(Fleet(workers, unreadable), NOW_MS)


def test_destinations_are_put_together_and_sorted_by_need() -> None:
    found = view(
        worker(
            "a",
            seen("dst_quick", per_second=90.0, calls=2),
            seen("dst_slow", "slowed", waiting=5, oldest_secs=2.0),
            seen("dst_failing", errors_per_second=3.0, last_error="InternalFailure"),
        ),
        worker(
            "b",
            seen("dst_idle"),
            seen("dst_slow", "suspended", waiting=7, oldest_secs=9.5, errors_per_second=1.5, last_error="AccessDenied"),
            seen("dst_waiting", waiting=40),
            seen("dst_quick", per_second=10.0, calls=1),
        ),
    )
    assert [one.id for one in found.destinations] == [
        "dst_slow", "dst_failing", "dst_waiting", "dst_quick", "dst_idle",
    ]  # fmt: skip
    slow, failing, _, quick, _ = found.destinations
    assert (slow.state, slow.waiting, slow.oldest_secs, slow.max_calls, slow.workers) == ("suspended", 12, 9.5, 16, 2)
    assert (slow.errors_per_second, slow.last_error) == (1.5, "AccessDenied")
    assert (failing.last_error, quick.per_second, quick.calls) == ("InternalFailure", 100.0, 3)
    assert (found.per_second, found.errors_per_second) == (100.0, 4.5)


def test_a_lost_worker_counts_for_nothing() -> None:
    gone = worker("gone", seen("dst_1", waiting=9), age_secs=LOST_SECS + 1, lag={"events": 99}, totals={"waiting": 9})
    found = view(worker("here", seen("dst_1", waiting=1), lag={"events": 1}, totals={"waiting": 1}), gone)
    assert [one.state.id for one in found.fleet.alive] == ["here"]
    assert [one.state.id for one in found.fleet.lost] == ["gone"]
    assert (found.lag["events"], found.waiting, found.destinations[0].waiting) == (1, 1, 1)
    assert found.age_secs == 1.0


def test_lag_and_calls_are_of_all_workers() -> None:
    old = PartitionSummary("events", 0, 3, 5, NOW_MS - 61_500)
    found = view(
        worker("a", lag={"events": 5, "retries": 1}, totals={"waiting": 2, "calls": 3}, partitions=[old]),
        worker(
            "b", age_secs=7.0, lag={"events": 2, "retries": 0}, totals={"waiting": 4, "calls": 1},
            partitions=[PartitionSummary("events", 1, 0, 0, None), PartitionSummary("events", 2, 1, 2, NOW_MS)],
        ),
    )  # fmt: skip
    assert dict(found.lag) == {"events": 7, "retries": 1}
    assert (found.waiting, found.calls) == (6, 4)
    assert (found.oldest_secs, found.age_secs) == (61.5, 7.0)


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    ahead = PartitionSummary("events", 0, 1, 1, NOW_MS + 5_000)
    assert view(worker("a", partitions=[ahead])).oldest_secs == 0.0


def test_destinations_that_a_worker_left_out_are_counted() -> None:
    full = worker("a", seen("dst_1"), seen("dst_2"), totals={"active": 320})
    # A missing bus is listed without a lane, so a worker can list more than it counts.
    listed = worker("b", seen("dst_3", "gone"), totals={"active": 0})
    assert view(full, listed).unshown == 318


def test_a_fleet_without_workers_is_empty() -> None:
    found = view(unreadable=2)
    assert (found.fleet.alive, found.fleet.lost, found.destinations, found.oldest_secs) == ([], [], [], None)
    assert (found.per_second, found.age_secs, found.fleet.unreadable) == (0.0, 0.0, 2)


def test_backlogs_are_counted_apart_from_the_lag() -> None:
    old = BacklogSummary("dst_1", 2, NOW_MS - 9_000, 4, 100, NOW_MS - 61_500, 3.0, 50.0)
    new = BacklogSummary("dst_2", 1, NOW_MS - 5_000, 0, 7, NOW_MS - 4_000)
    found = view(
        worker("a", totals={"behind": 70, "backlogEvents": 900}, backlogs=[old]),
        worker("b", totals={"behind": 2, "backlogEvents": 8}, backlogs=[old, new]),
        worker("gone", totals={"behind": 99}, backlogs=[new], age_secs=LOST_SECS + 1),
    )
    assert (found.behind, found.backlog_events, found.oldest_backlog_secs) == (70, 908, 61.5)
    assert {name: one.events for name, one in found.backlogs.items()} == {"dst_1": 208, "dst_2": 7}
    assert found.as_json()["backlogs"][1] == {
        "id": "dst_2", "cursors": 1, "since": "2027-01-15T07:59:55.000Z", "waiting": 0, "unread": 7,
        "oldestAt": "2027-01-15T07:59:56.000Z", "perSecond": 0.0, "catchUpSecs": None,
    }  # fmt: skip
    assert view(worker("a", backlogs=[new])).oldest_backlog_secs == 4.0
    assert (view(worker("a")).behind, view(worker("a")).oldest_backlog_secs) == (0, 0.0)


def test_programs_get_names_and_numbers() -> None:
    one = seen("dst_1", "slowed", waiting=3, calls=1, per_second=2.35, errors_per_second=0.5, last_error="503")
    found = view(
        worker("a", one, reasons=["stopping"], lag={"events": 4}, age_secs=2.04),
        worker("gone", age_secs=3600.0),
        unreadable=1,
    ).as_json()
    first, lost = found.pop("workers")
    assert first == {
        "id": "a", "name": "pushrail-stream", "state": "alive", "ageSecs": 2.0, "http": "host:9464", "version": "1",
        "group": "group", "startedAt": "1970-01-01T00:00:00.001Z", "reasons": ["stopping"], "lag": {"events": 4},
    }  # fmt: skip
    assert (lost["id"], lost["state"], lost["ageSecs"]) == ("gone", "lost", 3600.0)
    assert found == {
        "at": "2027-01-15T08:00:00.000Z", "otherGroups": 0,
        "unreadable": 1, "problem": "", "lag": {"events": 4}, "oldestSecs": None,
        "waiting": 0, "calls": 0, "perSecond": 2.35, "errorsPerSecond": 0.5, "unshown": 0,
        "behind": 0, "backlogEvents": 0, "backlogs": [],
        "destinations": [{
            "id": "dst_1", "state": "slowed", "perSecond": 2.35, "errorsPerSecond": 0.5, "lastError": "503",
            "waiting": 3, "oldestSecs": 0.0, "calls": 1, "maxCalls": 8, "workers": 1,
        }],
    }  # fmt: skip
