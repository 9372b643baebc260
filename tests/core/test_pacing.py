from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.pacing import TokenBucket


def test_a_burst_passes_and_then_the_rate() -> None:
    bucket = TokenBucket(10, 20)
    assert bucket.take(20, 100.0) == 0
    assert bucket.take(5, 100.0) == 0.5
    assert bucket.take(5, 100.5) == 0
    assert bucket.take(1, 100.5) == pytest.approx(0.1)


def test_an_amount_over_the_burst_is_refused() -> None:
    with pytest.raises(ValueError, match="21 exceeds the burst of 20"):
        TokenBucket(10, 20).take(21, 0.0)
    for rate, burst in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="a rate and a burst above 0"):
            TokenBucket(rate, burst)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), min_size=1))
def test_the_rate_and_one_burst_bound_everything(asked: list[tuple[float, int]]) -> None:
    bucket, now, passed = TokenBucket(10, 20), 0.0, 0
    for pause, amount in asked:
        now += pause
        if bucket.take(amount, now) == 0:
            passed += amount
    assert passed <= 20 + 10 * now + 1e-6
