"""The window: at least one call, at most the limit, cut once for each throttle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.health import Window


def cut_to(size: int, most: int = 8) -> Window:
    window = Window()
    while window.size(most) > size:
        window.throttled(window.round, most)
    return window


def test_a_throttle_halves_it_down_to_one() -> None:
    window, sizes = Window(), []
    for _ in range(5):
        window.throttled(window.round, 8)
        sizes.append(window.size(8))
    assert sizes == [4, 2, 1, 1, 1]
    assert window.pauses == 2, "below one call there is only waiting"


def test_an_earlier_call_cuts_no_further() -> None:
    window = Window()
    sent_in = window.round
    assert window.throttled(sent_in, 8)
    assert not any(window.throttled(sent_in, 8) for _ in range(7))
    assert window.size(8) == 4


def test_each_clean_window_adds_one_call() -> None:
    window = cut_to(2)
    grown = [window.count_clean(8) for _ in range(2 + 3 + 4)]
    assert [at for at, has_grown in enumerate(grown, 1) if has_grown] == [2, 5, 9]
    assert window.size(8) == 5


def test_a_throttle_restarts_the_clean_window() -> None:
    window = cut_to(2)
    window.count_clean(8)
    window.throttled(window.round, 8)
    assert (window.size(8), window.pauses) == (1, 0)
    window.throttled(window.round, 8)
    assert window.pauses == 1
    assert window.count_clean(8)
    assert (window.size(8), window.pauses) == (2, 0)


def test_a_partial_throttle_cuts_the_window() -> None:
    window = cut_to(1)
    window.throttled(window.round, 8)
    assert window.pauses == 1
    assert window.throttled(window.round, 8, partly=True)
    assert (window.size(8), window.pauses) == (1, 0)
    window.throttled(window.round, 8)
    assert not window.throttled(window.round - 1, 8, partly=True)
    assert window.pauses == 0
    assert Window().throttled(0, 8, partly=True)


def test_a_fully_grown_window_has_no_state() -> None:
    window = cut_to(4)
    assert window.is_cut
    while window.is_cut:
        window.count_clean(8)
    assert window.size(8) == 8
    assert window.size(100) == 100, "a document may raise it at once"
    assert not window.count_clean(8)


def test_a_lowered_limit_counts_at_once() -> None:
    assert cut_to(4).size(2) == 2


@given(
    most=st.integers(1, 64),
    story=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=200),
)
def test_it_allows_one_call_and_at_most_the_limit(most: int, story: list[tuple[bool, int]]) -> None:
    window = Window()
    for is_throttled, rounds_ago in story:
        before, this_round = window.size(most), window.round
        if is_throttled:
            cut = window.throttled(this_round - rounds_ago, most)
            assert cut == (rounds_ago == 0)
            assert window.size(most) == (max(1, before // 2) if cut else before)
        else:
            grown = window.count_clean(most)
            assert window.size(most) - before in ({0, 1} if grown else {0})
        assert 1 <= window.size(most) <= most
