"""Throughput: the deliveries of the last few seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.health import Throughput


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


def test_the_pace_leaves_pauses_out() -> None:
    throughput = Throughput()
    assert throughput.pace == 0.0
    for tenth in range(600):
        throughput.add(2, tenth / 10)
    assert abs(throughput.pace - 20) < 0.1
    for tenth in range(600):
        # An hour in which nothing was offered counts for ten seconds.
        throughput.add(2, 3600 + tenth / 10)
    assert 16 < throughput.pace < 20
    for second in range(300):
        throughput.add(1, 3660 + second)
    assert throughput.pace < 2


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 3)), max_size=50))
def test_the_speed_counts_four_seconds(story: list[tuple[int, float]]) -> None:
    throughput, now, taken = Throughput(), 0.0, list[tuple[float, int]]()
    for deliveries, passed in story:
        now += passed
        throughput.add(deliveries, now)
        taken.append((now, deliveries))
        lately = sum(count for at, count in taken if now - at <= 4)
        assert 0 <= throughput.per_second(now) * 2 <= lately + 1e-6
