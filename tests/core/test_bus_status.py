"""Bus status: the answers to checks, and the deliveries that a missing bus may have swallowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.bus_status import (
    CHECK_EVERY_SECS,
    FRESH_SECS,
    UNANSWERED_SECS,
    BusChecks,
    MissingBus,
    Swallowed,
    explain,
)
from pushrail_stream.core.outcome import BusStatus

ARN = "arn:aws:events:us-east-1:123456789012:event-bus/b"
TIMES = st.integers(0, 4_000_000_000_000)


def looked(status: BusChecks, bus_status: BusStatus, now: float) -> None:
    """One look, sent and answered at this moment."""
    status.begin_check()
    status.note_sent(round(now * 1000))
    status.learn(bus_status, now, round(now * 1000))


@given(TIMES, st.none() | TIMES)
def test_a_dead_letters_message_can_be_read_again(since_ms: int, last_seen_ms: int | None) -> None:
    bus = MissingBus(since_ms, last_seen_ms)
    assert MissingBus.read(bus.describe(ARN)) == bus


@pytest.mark.parametrize(
    "message",
    [
        "",
        f"{ARN} does not exist (DescribeEventBus)",
        f"{ARN} does not exist (DescribeEventBus), missing since yesterday, last seen never",
        f"{ARN} does not exist (DescribeEventBus), missing since 2026-05-26T14:21:08.493Z, last seen once",
    ],
)
def test_another_message_says_nothing(message: str) -> None:
    assert MissingBus.read(message) is None


def test_the_explanation_names_the_replay_command() -> None:
    told = explain("dst", MissingBus(5_000, 1_000), Swallowed(3, 1_500, 5_001))
    assert told.startswith(
        "last seen 1970-01-01T00:00:01.000Z; 3 deliveries from 1970-01-01T00:00:01.500Z on were reported"
    )
    assert told.endswith(
        ": pushrail-stream replay events --destination dst --delivered-since 1970-01-01T00:00:01.500Z "
        "--delivered-until 1970-01-01T00:00:05.001Z"
    )


def test_a_bus_that_was_never_seen_is_explained() -> None:
    assert explain("dst", MissingBus(5, None), None) == (
        "it is not known when it was last seen; nothing was reported as delivered since then"
    )


@pytest.mark.parametrize(
    ("bus_status", "again_secs"),
    [("there", CHECK_EVERY_SECS), ("denied", CHECK_EVERY_SECS), ("unknown", UNANSWERED_SECS)],
)
def test_an_existing_bus_is_rechecked_later(bus_status: BusStatus, again_secs: float) -> None:
    status = BusChecks()
    assert (status.state, status.is_due(0.0)) == ("awaited", True)
    looked(status, bus_status, 0.0)
    assert status.state == "open"
    assert not status.is_due(again_secs - 1)
    assert status.is_due(again_secs)
    assert status.state == "open", "nothing waits for that"
    assert status.swallowed is None


def test_only_an_old_answer_expires() -> None:
    seen, denied = BusChecks(), BusChecks()
    looked(seen, "there", 0.0)
    looked(denied, "denied", 0.0)
    assert seen.is_due(FRESH_SECS)
    assert denied.is_due(FRESH_SECS)
    assert (seen.state, denied.state) == ("awaited", "open")


def test_a_missing_bus_is_checked_ever_less() -> None:
    status, pauses = BusChecks(), []
    for now in range(7):
        looked(status, "gone", float(now))
        assert status.state == "missing"
        assert not status.is_due(1e9)
        pauses.append(status.pause_secs)
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    looked(status, "unknown", 8.0)
    assert (status.state, status.pause_secs, status.is_due(1e9)) == ("missing", 600, False)
    looked(status, "denied", 9.0)
    assert (status.state, status.pause_secs) == ("open", 30)


def test_deliveries_count_by_their_call_time() -> None:
    status = BusChecks()
    status.count_delivered(1, 500)
    status.begin_check()
    status.note_sent(1_000)
    status.count_delivered(2, 900)
    status.count_delivered(4, 1_000)
    status.count_delivered(8, 1_100)
    status.learn("there", 2.0, 2_000)
    status.count_delivered(16, 999)
    status.count_delivered(32, 1_900)
    status.count_delivered(0, 1)
    looked(status, "gone", 3.0)
    assert status.missing == MissingBus(3_000, 1_000)
    assert status.swallowed == Swallowed(4 + 8 + 32, 1_000, 3_001)


@given(st.lists(st.tuples(st.sampled_from(["there", "unknown", "denied", "busy"]), st.integers(0, 9)), max_size=20))
def test_deliveries_since_last_seen_are_counted(story: list[tuple[BusStatus, int]]) -> None:
    status, since, now = BusChecks(), 0, 0.0
    for bus_status, deliveries in story:
        now += 1
        status.count_delivered(deliveries, round(now * 1000))
        since += deliveries
        looked(status, bus_status, now + 0.5)
        since = 0 if bus_status == "there" else since
    looked(status, "gone", now + 1)
    assert (status.swallowed.deliveries if status.swallowed else 0) == since


def test_a_new_way_to_a_bus_is_checked_again() -> None:
    status = BusChecks()
    status.count_delivered(1, 100)
    status.begin_check()
    status.note_sent(1_000)
    status.count_delivered(2, 1_500)
    status.check_again()
    assert (status.state, status.is_due(0.0)) == ("awaited", True)
    looked(status, "gone", 3.0)
    assert status.swallowed == Swallowed(3, 100, 3_001)
