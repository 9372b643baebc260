"""The states of destinations by the delivery log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.observe.worker_record import DestinationSummary
from pushrail_stream.operations.attempts import Attempt, read_attempt
from pushrail_stream.operations.destination_health import (
    DestinationHealth,
    add_live,
    count_swallowed,
    judge_health,
    missing_periods,
)
from pushrail_stream.operations.fleet import Fleet, FleetWorker
from tests.support.attempt_records import AT_MS, said
from tests.support.worker_records import worker_record

DELIVERED = {"status": "delivered"}
THROTTLED = {"status": "retrying", "reason": "throttled", "code": "ThrottlingException"}
FAILED = {"status": "retrying", "reason": "retryable", "code": "503"}
BLOCKED = {"status": "dead_lettered", "reason": "blocked", "code": "AccessDeniedException"}
SUSPENDED = {"status": "dead_lettered", "reason": "suspended", "code": "DestinationSuspended"}
GONE = {"status": "dead_lettered", "reason": "blocked", "code": "EventBusNotFound"}
REJECTED = {"status": "dead_lettered", "reason": "rejected", "code": "MalformedDetail"}
SKIPPED = {"status": "skipped", "reason": "filtered"}


def health(*attempts: dict[str, Any]) -> DestinationHealth | None:
    """After these, a second apart."""
    records = (
        said(0) | {"at": format_rfc3339(AT_MS + number * 1000), "code": None} | changes
        for number, changes in enumerate(attempts)
    )
    return judge_health(map(read, records)).get("dst_0")


def read(record: dict[str, Any]) -> Attempt:
    attempt = read_attempt(json.dumps(record).encode())
    assert attempt is not None
    return attempt


@pytest.mark.parametrize(
    ("attempts", "state", "since"),
    [
        ([DELIVERED, DELIVERED], "ok", 0),
        ([DELIVERED, THROTTLED, FAILED], "slowed", 1),
        ([FAILED, FAILED], "retrying", 0),
        ([BLOCKED, SUSPENDED, SUSPENDED, BLOCKED], "suspended", 1),
        ([SUSPENDED, FAILED], "suspended", 0),
        ([BLOCKED, GONE], "gone", 1),
        ([SUSPENDED, DELIVERED, REJECTED, SKIPPED], "ok", 1),
    ],
)
def test_health_counts_since_the_last_delivery(attempts: list[dict[str, Any]], state: str, since: int) -> None:
    found = health(*attempts)
    assert found is not None
    assert (found.state, found.since_ms) == (state, AT_MS + since * 1000)


def test_an_events_own_fault_is_ignored() -> None:
    assert health(REJECTED, SKIPPED) is None
    assert health(BLOCKED | {"destinationId": None}) is None


def gone(since_ms: int, last_seen_ms: int | None) -> dict[str, Any]:
    return GONE | {"message": MissingBus(AT_MS + since_ms, last_seen_ms and AT_MS + last_seen_ms).describe("arn")}


def test_a_missing_bus_counts_until_a_delivery() -> None:
    found = health(BLOCKED, gone(900, None), GONE, gone(700, 300), gone(950, 200), GONE)
    assert found is not None
    assert found.bus == MissingBus(AT_MS + 700, AT_MS + 300)
    found = health(gone(700, 300), DELIVERED, GONE)
    assert found is not None
    assert (found.state, found.bus) == ("gone", None)


def test_swallowed_deliveries_are_counted() -> None:
    missing = {"dst_0": MissingBus(AT_MS + 5_000, AT_MS + 2_000), "dst_1": MissingBus(AT_MS + 5_000, None)}
    found = {name: DestinationHealth("gone", None, 0, bus) for name, bus in missing.items()}
    periods = missing_periods(found, AT_MS + 1_000)
    assert periods["dst_1"][0] == AT_MS + 1_000
    attempts = [read(said(0) | DELIVERED | {"destinationId": ["dst_0"]})]
    for second in range(10):
        for changes in (DELIVERED, FAILED, DELIVERED | {"destinationId": "dst_2"}):
            at = {"at": format_rfc3339(AT_MS + second * 1000)}
            attempts += map(read, (said(0) | at | changes, said(0) | {"destinationId": "dst_1"} | at | changes))
    assert count_swallowed(attempts, periods) == {
        "dst_0": Swallowed(4, AT_MS + 2_000, AT_MS + 5_001),
        "dst_1": Swallowed(5, AT_MS + 1_000, AT_MS + 5_001),
    }


def test_living_workers_know_better_than_the_log() -> None:
    missing = MissingBus(1_000, None)
    logged = {
        "back": DestinationHealth("gone", "EventBusNotFound", 1_000, missing),
        "same": DestinationHealth("suspended", "AccessDeniedException", 2_000),
        "unseen": DestinationHealth("blocked", "AccessDeniedException", 3_000),
    }
    live = fleet_of(
        (3_000, seen("back", "ok", "EventBusNotFound")),
        (3_000, seen("same", "suspended"), seen("new", "slowed", "ThrottlingException")),
    )
    assert add_live(logged, live) == {
        "back": DestinationHealth("ok", None, None),
        "same": logged["same"],
        "unseen": logged["unseen"],
        "new": DestinationHealth("slowed", "ThrottlingException", None),
    }


@pytest.mark.parametrize("records", [(2_000, 2_999), (2_999, 2_000), (2_999, 3_001), (3_001, 2_999)])
def test_the_log_is_newer_than_a_workers_last_record(records: tuple[int, int]) -> None:
    logged = {"dst_0": DestinationHealth("gone", "EventBusNotFound", 3_000, MissingBus(2_900, 1_000))}
    assert add_live(logged, fleet_of(*((at_ms, seen("dst_0", "ok")) for at_ms in records))) == logged


def seen(name: str, state: DestinationState, last_error: str = "") -> DestinationSummary:
    return DestinationSummary(name, state, 0, 0, 8, 1.0, last_error=last_error)


def fleet_of(*records: tuple[int, *tuple[DestinationSummary, ...]]) -> Fleet:
    """Workers, each with the time of its record and its destinations."""
    workers = [worker_record(str(number), at_ms, *rest) for number, (at_ms, *rest) in enumerate(records)]
    return Fleet([FleetWorker(state, 0.0) for state in workers], 0)
