"""The backlog: deliveries return before their destination runs out of work, and not long before."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.backlog import Backlog

NOW = 1000.0
PER_SECOND = 8.0
"""With the haste that is taken for granted: ten a second."""


def away(*left: tuple[float, int], at: float = NOW) -> Backlog:
    backlog = Backlog()
    for delay, count in left:
        for _ in range(count):
            backlog.add(delay, at)
    return backlog


def busy(backlog: Backlog, waiting: int = 0, now: float = NOW) -> float:
    return backlog.backlog_secs(waiting, PER_SECOND, 10.0, now)


def test_queued_deliveries_keep_it_busy() -> None:
    assert busy(Backlog(), waiting=500) == 50.0


def test_nothing_returns_before_the_first_tier() -> None:
    assert busy(Backlog()) == busy(Backlog(), waiting=99) == 10.0


def test_returning_deliveries_keep_it_busy() -> None:
    assert busy(away((10.0, 500)), waiting=200) == pytest.approx(70.0)


def test_late_returns_do_not_keep_it_busy() -> None:
    assert busy(away((120.0, 5000)), waiting=200) == 20.0
    assert busy(away((120.0, 5000)), waiting=1200) == pytest.approx(620.0)


def test_an_early_gap_changes_nothing() -> None:
    assert busy(away((10.0, 300))) == pytest.approx(40.0)


def test_a_due_delivery_counts_in_the_lane() -> None:
    backlog = away((10.0, 500))
    assert busy(backlog, now=NOW + 9.0) == pytest.approx(51.0)
    assert busy(backlog, now=NOW + 9.6) == 10.0
    assert busy(backlog, waiting=300, now=NOW + 11.0) == 30.0


def test_a_long_queue_waits_on_the_longest_tier() -> None:
    backlog, moved = Backlog(), dict.fromkeys((10.0, 120.0, 1800.0), 0)
    for _ in range(36_000):
        tier = max(delay for delay in moved if delay <= busy(backlog, waiting=100))
        backlog.add(tier, NOW)
        moved[tier] += 1
    # Deliveries for two minutes of work, then for half an hour, and the rest.
    assert moved == {10.0: pytest.approx(1100, abs=10), 120.0: pytest.approx(16_800, abs=20), 1800.0: 36_000 - sum(
        (moved[10.0], moved[120.0])
    )}  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([10.0, 120.0, 1800.0]), st.floats(0, 30)), max_size=40), st.integers(0, 900))
def test_more_deliveries_never_idle_earlier(story: list[tuple[float, float]], waiting: int) -> None:
    backlog, now = Backlog(), NOW
    for delay, passed in story:
        now += passed
        before = busy(backlog, waiting, now)
        assert 10.0 <= before < math.inf
        assert busy(backlog, waiting + 1, now) >= before - 1e-6
        backlog.add(delay, now)
        assert busy(backlog, waiting, now) >= before - 1e-6
