"""Pacing: the rate that a bucket allows, and the pauses between failures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.pacing import Backoff, TokenBucket


def test_a_burst_passes_and_then_the_rate() -> None:
    bucket = TokenBucket(10, 20)
    assert bucket.wait_secs(100.0, 20) == 0
    bucket.spend(100.0, 20)
    assert bucket.wait_secs(100.0, 5) == 0.5
    assert bucket.wait_secs(100.5, 5) == 0
    bucket.spend(100.5, 5)
    assert bucket.wait_secs(100.5, 1) == pytest.approx(0.1)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0)])
def test_rate_and_burst_are_above_zero(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="a rate and a burst above 0"):
        TokenBucket(rate, burst)


def test_a_rest_allows_no_more_than_the_burst() -> None:
    bucket, waits = TokenBucket(10), list[float]()
    for now, amount in ((100.0, 10), (100.25, 10), (101.0, 5), (160.0, 5), (160.0, 5)):
        waits.append(bucket.wait_secs(now))
        bucket.spend(now, amount)
    assert waits == [0, 0.75, 1.0, 0, 0.5]


def test_no_limit_means_no_wait() -> None:
    bucket = TokenBucket(math.inf)
    bucket.spend(1.0, 500)
    assert bucket.wait_secs(0.0, 500) == 0


def test_a_pause_ends_with_one_call_at_the_rate() -> None:
    bucket = TokenBucket(10, 5)
    assert bucket.is_full(0.0)
    bucket.pause(3.0)
    assert bucket.wait_secs(1.0) == pytest.approx(2.0)
    bucket.spend(3.0)
    assert bucket.wait_secs(3.0) == pytest.approx(0.1)
    assert [bucket.is_full(now) for now in (3.4, 3.6)] == [False, True]


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), min_size=1))
def test_the_rate_and_one_burst_bound_everything(asked: list[tuple[float, int]]) -> None:
    bucket, now, passed = TokenBucket(10, 20), 0.0, 0
    for pause, amount in asked:
        now += pause
        if bucket.wait_secs(now, amount) == 0:
            bucket.spend(now, amount)
            passed += amount
    assert passed <= 20 + 10 * now + 1e-6


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (7, 12.8), (8, 20.0), (9, 20.0), (10**9, 20.0)]
)
def test_the_pause_has_full_jitter_and_a_cap(failures: int, longest: float) -> None:
    backoff = Backoff(0.2, 20.0)
    assert backoff.pause_secs(failures, 0.0) == 0.0
    assert backoff.pause_secs(failures, 0.25) == pytest.approx(longest / 4)
    assert backoff.pause_secs(failures) == pytest.approx(longest)


@given(st.integers(1, 10**12), st.floats(0, 1, exclude_max=True), st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_no_pause_is_negative_or_over_the_cap(failures: int, jitter: float, first: float, cap: float) -> None:
    backoff = Backoff(first, cap)
    assert 0 <= backoff.pause_secs(failures, jitter) <= cap
    assert backoff.pause_secs(failures, jitter) <= backoff.pause_secs(failures + 1, jitter)
