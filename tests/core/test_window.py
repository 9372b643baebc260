"""The window: it grows while calls of a full lane stay quick, and is cut once for each throttle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.window import USUAL, Window


class Rounds:
    """A window whose calls all go through, a round after the other, on a clock that they move."""

    def __init__(self, most: int = 64, size: int = 0) -> None:
        self.window = Window(most)
        self.now = 0.0
        while self.window.size < size:
            self.play()

    def play(self, secs: float = 0.05, *, waits: bool = True) -> int:
        """As many calls as it holds, side by side; its new size."""
        self.now += max(secs, 1 / 16)
        for _ in range(self.window.size):
            if waits:
                self.window.note_wait()
            self.window.went_through(secs, self.now)
        return self.window.size

    def throttle(self, *, partly: bool = False) -> int:
        """A call of the present is throttled; its new size."""
        self.window.throttled(self.window.cuts, self.now, partly=partly)
        return self.window.size

    def fail(self) -> int:
        """A call of the present fails as a whole; its new size."""
        self.window.failed(self.window.cuts, self.now)
        return self.window.size


def cut_to(size: int, most: int = 8) -> Rounds:
    rounds = Rounds(most)
    while rounds.window.size > size:
        rounds.throttle()
    return rounds


def test_it_starts_at_its_usual_size() -> None:
    assert [(Window(most).size, Window(most).usual) for most in (1, 8, 64)] == [(1, 1), (8, 8), (8, 8)]


def test_a_full_lane_with_quick_calls_grows_it_within_two_seconds() -> None:
    rounds = Rounds(64)
    assert [rounds.play() for _ in range(14)] == [10, 12, 14, 16, 19, 22, 25, 29, 33, 38, 43, 49, 56, 64]
    assert rounds.now < 2
    assert rounds.play() == 64


def test_a_round_takes_a_twentieth_of_a_second_at_least() -> None:
    window, sizes = Window(64), list[int]()
    for call in range(200):
        window.note_wait()
        window.went_through(0.001, call / 1024)
        sizes.append(window.size)
    assert [sizes.index(size) for size in (8, 10, 12, 14, 16)] == [0, 7, 59, 111, 163]


def test_without_a_waiting_batch_it_keeps_its_size() -> None:
    rounds = Rounds()
    assert [rounds.play(waits=False) for _ in range(9)] == [USUAL] * 9


def test_a_wait_counts_in_its_round_only() -> None:
    rounds = Rounds()
    rounds.window.note_wait()
    assert [rounds.play(waits=False) for _ in range(3)] == [10, 10, 10]


@pytest.mark.parametrize(("secs", "size"), [(0.1, 10), (0.102, 10), (0.103, 8)])
def test_calls_of_twice_the_quickest_grow_it_no_more(secs: float, size: int) -> None:
    rounds = Rounds()
    rounds.play(waits=False)
    assert rounds.play(secs) == size


@pytest.mark.parametrize(("secs", "size"), [(0.204, 33), (0.205, 32)])
def test_calls_of_four_times_the_quickest_shrink_it(secs: float, size: int) -> None:
    rounds = Rounds(size=33)
    assert rounds.play(secs) == size


def test_slow_calls_shrink_it_to_its_usual_size_only() -> None:
    rounds = Rounds(size=12)
    assert [rounds.play(1.0) for _ in range(6)] == [11, 10, 9, 8, 8, 8]


def test_calls_as_slow_as_ever_are_quick_after_a_minute() -> None:
    rounds = Rounds()
    rounds.play(0.05, waits=False)
    sizes = []
    for _ in range(4):
        rounds.now += 19.0
        sizes.append(rounds.play(0.3))
    assert sizes == [8, 8, 8, 10]


def test_an_hour_without_calls_forgets_the_quickest() -> None:
    rounds = Rounds()
    rounds.play(waits=False)
    rounds.now += 3600.0
    assert rounds.play(0.3) == 10


def test_the_quickest_of_a_span_counts_from_then_on() -> None:
    rounds = Rounds()
    rounds.window.went_through(0.3, 0.0)
    rounds.window.went_through(0.01, 0.0)
    assert rounds.play(0.3) == 8


def test_a_throttle_halves_it_down_to_one() -> None:
    rounds = Rounds()
    assert [rounds.throttle() for _ in range(5)] == [4, 2, 1, 1, 1]
    assert rounds.window.pauses == 2, "below one call there is only waiting"


def test_an_earlier_call_cuts_no_further() -> None:
    window = Window(8)
    cuts = window.cuts
    assert window.throttled(cuts, 0.0)
    assert not any(window.throttled(cuts, 0.0) for _ in range(7))
    window.failed(cuts, 0.0)
    assert window.size == 4


def test_below_its_usual_size_it_grows_with_each_round() -> None:
    rounds = cut_to(2)
    assert [rounds.play(1.0, waits=False) for _ in range(6)] == [3, 4, 5, 6, 7, 7], "it was throttled at eight"
    assert not rounds.window.is_plain(59.9)
    rounds.now = 60.0
    assert rounds.play(1.0, waits=False) == 8
    assert rounds.window.is_plain(60.0)


def test_it_stays_below_the_throttled_size_for_a_minute() -> None:
    rounds = Rounds(size=32)
    at, since = rounds.window.size, rounds.now
    assert rounds.throttle() == at // 2
    while rounds.now < since + 59.0:
        assert rounds.play() < at
    assert rounds.window.size == at - 1
    rounds.now = since + 60.0
    assert rounds.play() > at


def test_throttles_in_a_row_count_from_the_first() -> None:
    rounds = cut_to(1)
    assert [rounds.play() for _ in range(7)] == [2, 3, 4, 5, 6, 7, 7]
    rounds = cut_to(4)
    rounds.window.went_through(0.05, 0.0)
    rounds.throttle()
    assert [rounds.play() for _ in range(3)] == [3, 3, 3], "a call went through at four"


def test_a_throttle_restarts_the_round() -> None:
    rounds = cut_to(2)
    rounds.window.went_through(0.05, 0.0)
    assert (rounds.throttle(), rounds.window.pauses) == (1, 0)
    assert (rounds.throttle(), rounds.window.pauses) == (1, 1)
    assert (rounds.play(), rounds.window.pauses) == (1, 0), "throttled at two"
    rounds.now = 61.0
    assert rounds.play() == 2


def test_a_partial_throttle_cuts_it_without_a_pause() -> None:
    rounds = cut_to(1)
    rounds.throttle()
    assert rounds.window.pauses == 1
    assert (rounds.throttle(partly=True), rounds.window.pauses) == (1, 0)
    rounds.throttle()
    assert not rounds.window.throttled(rounds.window.cuts - 1, 0.0, partly=True)
    assert rounds.window.pauses == 0
    assert Window(8).throttled(0, 0.0, partly=True)


def test_a_failure_brings_it_back_to_its_usual_size_and_then_halves_it() -> None:
    rounds = Rounds(size=40)
    assert [rounds.fail() for _ in range(5)] == [8, 4, 2, 1, 1]
    assert rounds.window.pauses == 0
    assert [rounds.play() for _ in range(8)] == [2, 3, 4, 5, 6, 7, 8, 10], "no throttle is remembered"


def test_a_changed_limit_counts_at_once() -> None:
    rounds = Rounds(size=40)
    rounds.window.allow(2)
    assert (rounds.window.size, rounds.window.usual, rounds.window.is_plain(0.0)) == (2, 2, True)
    assert rounds.play() == 2
    rounds.window.allow(256)
    assert rounds.window.size >= 40


def test_only_a_window_like_a_new_one_is_plain() -> None:
    assert Window(64).is_plain(0.0)
    assert not Rounds(size=10).window.is_plain(0.0)
    rounds = Rounds(1)
    rounds.throttle()
    assert not rounds.window.is_plain(61.0), "a pause"


@given(
    most=st.integers(1, 256),
    story=st.lists(
        st.tuples(st.sampled_from(["passes", "throttled", "fails"]), st.integers(0, 3), st.floats(0.001, 1.0)),
        max_size=300,
    ),
)
def test_it_allows_one_call_and_at_most_the_limit(most: int, story: list[tuple[str, int, float]]) -> None:
    window, now = Window(most), 0.0
    for what, cuts_ago, secs in story:
        now += secs
        before, cuts = window.size, window.cuts
        if what == "passes":
            window.note_wait()
            window.went_through(secs, now)
            assert -1 <= window.size - before <= 1 + before // 8
        elif what == "throttled":
            is_cut = window.throttled(cuts - cuts_ago, now)
            assert is_cut == (cuts_ago == 0)
            assert window.size == (max(1, before // 2) if is_cut else before)
        else:
            window.failed(cuts - cuts_ago, now)
            assert window.size <= before
        assert 1 <= window.size <= most
