"""The ledger: every delivery that has begun is in exactly one column."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.ledger import Ledger

STEPS = {"begin": "begun", "deliver": "delivered", "dead_letter": "dead_lettered", "skip": "skipped", "drop": "dropped"}


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 50))))
def test_every_step_keeps_the_balance(steps: list[tuple[str, int]]) -> None:
    ledger = Ledger()
    for step, deliveries in steps:
        getattr(ledger, step)(deliveries)
        assert ledger.balances == (ledger.in_flight >= 0), "more cannot end than has begun"
    for step, column in STEPS.items():
        assert getattr(ledger, column) == sum(number for taken, number in steps if taken == step)
    begun, *settled = (getattr(ledger, column) for column in STEPS.values())
    assert ledger.in_flight == begun - sum(settled)


def test_a_retry_copy_counts_as_settled() -> None:
    assert Ledger(begun=3, delivered=1, moved_to_retry=1, in_flight=1).balances


@pytest.mark.parametrize("column", range(7))
def test_one_count_too_many_breaks_the_balance(column: int) -> None:
    ledger = Ledger(21, 1, 2, 3, 4, 5, 6)
    assert ledger.balances
    name = list(Ledger.__dataclass_fields__)[column]
    assert not replace(ledger, **{name: astuple(ledger)[column] + 1}).balances
