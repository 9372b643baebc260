"""Merged periods."""

from __future__ import annotations

from tests.simulation.oracle.periods import Periods


def test_periods_that_overlap_are_one() -> None:
    periods = Periods([(5.0, 7.0), (1.0, 3.0), (2.0, 4.0), (6.0, 6.5)])
    assert [at for at in (0.9, 1.0, 3.5, 4.0, 4.5, 5.0, 6.8, 7.1) if at in periods] == [1.0, 3.5, 4.0, 5.0, 6.8]


def test_a_period_meets_those_that_it_touches() -> None:
    periods = Periods([(1.0, 3.0), (5.0, 7.0)])
    assert periods.meet(3.0, 4.0)
    assert periods.meet(4.0, 5.0)
    assert periods.meet(0.0, 9.0)
    assert not periods.meet(3.1, 4.9)
    assert not periods.meet(7.1, 9.0)
    assert not Periods([]).meet(0.0, 9.0)
