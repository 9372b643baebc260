"""Throughput: the deliveries of the last few seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.throughput import Throughput


def test_a_new_destination_has_no_speed() -> None:
    throughput = Throughput()
    assert throughput.per_second(1000.0) == 0.0
    assert throughput.last == float("-inf")


def test_a_steady_rate_fades_with_silence() -> None:
    throughput = Throughput()
    for tenth in range(100):
        throughput.add(5, tenth / 10)
    assert 40 <= throughput.per_second(9.9) <= 60
    assert throughput.last == 9.9
    assert throughput.per_second(12.5) < 40
    assert throughput.per_second(14.0) == 0.0


def test_the_first_seconds_tell_a_speed() -> None:
    """A destination of which little is known is judged by the time for which it is known."""
    throughput = Throughput()
    assert throughput.age_secs(1000.0) == float("-inf")
    throughput.add(10, 1000.0)
    assert throughput.per_second(1000.0) == 100.0, "a tenth of a second at least"
    assert (throughput.age_secs(1000.5), throughput.per_second(1000.5)) == (0.5, 20.0)
    for tenth in range(1, 20):
        throughput.add(10, 1000.0 + tenth / 10)
    assert throughput.per_second(1001.9) == pytest.approx(200 / 1.9)
    assert throughput.age_secs(1010.0) == float("-inf"), "that was long ago"
    throughput.add(1, 1010.0)
    assert throughput.age_secs(1010.5) == 0.5


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 3)), max_size=50))
def test_the_speed_counts_four_seconds(story: list[tuple[int, float]]) -> None:
    throughput, now, taken = Throughput(), 0.0, list[tuple[float, int]]()
    for deliveries, passed in story:
        now += passed
        throughput.add(deliveries, now)
        taken.append((now, deliveries))
        lately = sum(count for at, count in taken if now - at <= 4)
        known_secs = min(2.0, max(throughput.age_secs(now), 0.1))
        assert 0 <= throughput.per_second(now) * known_secs <= lately + 1e-6
