"""How destinations stand by the delivery log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.history.attempts import read_attempt
from pushrail_stream.history.standing import Standing, Standings
from tests.history.samples import AT_MS, said

DELIVERED = {"status": "delivered"}
THROTTLED = {"status": "retrying", "reason": "throttled", "code": "ThrottlingException"}
FAILED = {"status": "retrying", "reason": "retryable", "code": "503"}
BLOCKED = {"status": "dead_lettered", "reason": "blocked", "code": "AccessDeniedException"}
SUSPENDED = {"status": "dead_lettered", "reason": "suspended", "code": "DestinationSuspended"}
GONE = {"status": "dead_lettered", "reason": "blocked", "code": "EventBusNotFound"}
REJECTED = {"status": "dead_lettered", "reason": "rejected", "code": "MalformedDetail"}
SKIPPED = {"status": "skipped", "reason": "filtered"}


def standing(*attempts: dict[str, Any]) -> Standing | None:
    """After these, a second apart."""
    standings = Standings()
    for number, changes in enumerate(attempts):
        at = format_rfc3339(AT_MS + number * 1000)
        attempt = read_attempt(json.dumps(said(0) | {"at": at, "code": None} | changes).encode())
        assert attempt is not None
        standings.take(attempt)
    return standings.of("dst_0")


@pytest.mark.parametrize(
    ("attempts", "state", "since"),
    [
        ([DELIVERED, DELIVERED], "delivering", 0),
        ([DELIVERED, THROTTLED, FAILED], "slowed", 1),
        ([FAILED, FAILED], "retrying", 0),
        ([BLOCKED, SUSPENDED, SUSPENDED, BLOCKED], "suspended", 1),
        ([SUSPENDED, FAILED], "suspended", 0),
        ([BLOCKED, GONE], "gone", 1),
        ([SUSPENDED, DELIVERED, REJECTED, SKIPPED], "delivering", 1),
    ],
)
def test_a_destination_stands_as_badly_as_since_its_last_delivery(
    attempts: list[dict[str, Any]], state: str, since: int
) -> None:
    found = standing(*attempts)
    assert found is not None
    assert (found.state, found.since_ms) == (state, AT_MS + since * 1000)


def test_of_an_events_own_fault_nothing_is_learnt() -> None:
    assert standing(REJECTED, SKIPPED) is None
    assert standing(BLOCKED | {"destinationId": None}) is None
