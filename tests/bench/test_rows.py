from __future__ import annotations

from collections import Counter

import pytest

from tests.bench.rows import FULL, MOST_CUSTOMERS, QUICK, ROWS, Size, compared, interleave, many, speed
from tests.bench.trial import Look


@pytest.mark.parametrize("size", [QUICK, FULL])
@pytest.mark.parametrize("row", ROWS)
def test_a_case_has_the_events_that_it_says(row: str, size: Size) -> None:
    cases = list(ROWS[row](size))
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        customers = list(case.surroundings.customers)
        assert len(customers) == case.surroundings.events
        assert set(customers) <= set(range(MOST_CUSTOMERS))


def test_lagging_buses_take_the_same_together() -> None:
    far, ten, fifty = (case.surroundings for case in many(QUICK))
    assert not far.paces
    assert (len(ten.paces), len(fifty.paces)) == (10, 50)
    assert sum(ten.paces.values()) == pytest.approx(sum(fifty.paces.values()))


def test_the_few_are_evenly_among_the_many() -> None:
    mixed = list(interleave([0] * 100, [1, 2] * 5))
    assert Counter(mixed) == {0: 100, 1: 5, 2: 5}
    assert [place for place, one in enumerate(mixed) if one] == [11 * few + 10 for few in range(10)]


def test_speed_is_of_the_time_between_two_looks() -> None:
    first, last = Look(10.0, 1_000, {}, 100, 2.0), Look(12.0, 5_000, {}, 500, 2.2)
    assert speed(first, last) == {"events_per_s": 2_000, "cpu_us_per_event": 50.0}
    assert speed(first, first._replace(at=11.0)) == {"events_per_s": 0, "cpu_us_per_event": None}


def test_ratios_are_ours_by_theirs() -> None:
    ours = {"events_per_s": 5_000, "cpu_us_per_event": 50.0, "copies_per_event": 0.0}
    told = compared(ours, {"events_per_s": 500, "cpu_us_per_event": None, "copies_per_event": 20.0})
    assert told["events_per_s_ratio"] == 10.0
    assert told["cpu_us_per_event_ratio"] is None
    assert (told["copies_per_event"], told["against_copies_per_event"]) == (0.0, 20.0)
