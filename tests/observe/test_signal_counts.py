"""Counts of signals: late deliveries. `tests/observe/test_metrics.py` has the others, as a scrape shows them."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem, Replay, Trigger
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.retry import Settled, Tier
from pushrail_stream.core.signals import MovedToRetry, Signal
from pushrail_stream.observe.signal_counts import SignalCounts
from tests.support.records import record
from tests.support.signals import AT_MS, attempted, changed


def late(signal: Signal) -> tuple[int, int]:
    """Late deliveries: by us, and by destinations."""
    counts = SignalCounts({"retry.10s": 10})
    counts(signal)
    return counts.late["ours"], counts.late["destination"]


def called(*, recorded_secs: float, first_secs: float, problem: Problem | None = None, **changes: Any) -> Signal:
    """A call that delivers an event, whose record and first attempt were that long ago when the call ended."""
    signal = attempted((Delivered("e"), Settled()), duration_secs=0.0)
    aged = signal.deliveries[0].record._replace(timestamp_ms=AT_MS - round(recorded_secs * 1000))
    first_ms = AT_MS - round(first_secs * 1000)
    return changed(signal, record=aged, first_attempt_ms=first_ms, problem=problem, **changes)


OURS, THEIRS = Problem("BaseCredentialsMissing", "", is_our_delay=True), Problem("ThrottlingException", "")


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (called(recorded_secs=30, first_secs=0), (0, 0)),
        (called(recorded_secs=30.001, first_secs=0), (1, 0)),
        (called(recorded_secs=90, first_secs=60, problem=THEIRS), (0, 1)),
        (called(recorded_secs=90.001, first_secs=60, problem=THEIRS), (1, 0)),
        (called(recorded_secs=90, first_secs=60, problem=OURS), (1, 0)),
        (called(recorded_secs=90, first_secs=0, tier=1), (0, 0)),
        (called(recorded_secs=90, first_secs=0, replay=Replay("rp-1", 1)), (0, 0)),
        (called(recorded_secs=-90, first_secs=0), (0, 0)),
    ],
    ids=[
        "in time", "asked late", "asked in time", "asked a millisecond too late", "held up by us", "on a retry",
        "replayed", "by a clock that is ahead",
    ],
)  # fmt: skip
def test_a_late_delivery_has_the_cause_of_its_delay(signal: Signal, expected: tuple[int, int]) -> None:
    assert late(signal) == expected


def moved(*, problem: Problem | None, first_attempt_ms: int | None, trigger: Trigger = "live") -> Signal:
    copy = Copy(
        record=record(0)._replace(timestamp_ms=AT_MS - 10_000), reason="held", failed_at_ms=AT_MS, problem=problem,
        tier=Tier("retry.10s", 10), destination_id="dst_a", first_attempt_ms=first_attempt_ms, trigger=trigger,
    )  # fmt: skip
    return MovedToRetry(copy, "retry.10s")


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (moved(problem=THEIRS, first_attempt_ms=AT_MS - 9_000), (0, 1)),
        (moved(problem=None, first_attempt_ms=AT_MS), (0, 1)),
        (moved(problem=OURS, first_attempt_ms=AT_MS - 9_000), (1, 0)),
        (moved(problem=THEIRS, first_attempt_ms=AT_MS + 21_000), (1, 0)),
        (moved(problem=None, first_attempt_ms=None), (1, 0)),
        (moved(problem=OURS, first_attempt_ms=AT_MS, trigger="retry"), (0, 0)),
        (moved(problem=OURS, first_attempt_ms=AT_MS, trigger="replay"), (0, 0)),
    ],
    ids=["it failed", "no room", "our fault", "asked late", "never asked", "from a retry topic", "replayed"],
)
def test_a_delivery_that_leaves_for_a_retry_topic_is_late(signal: Signal, expected: tuple[int, int]) -> None:
    assert late(signal) == expected
