"""The ledger: every delivery that has begun is in exactly one column."""

from __future__ import annotations

import pytest

from pushrail_stream.core.ledger import Ledger

ENDS = ("delivered", "dead_lettered", "moved_to_retry", "skipped", "put_back", "dropped")


def test_a_delivery_is_in_flight_until_it_ends() -> None:
    ledger = Ledger(begun=21, delivered=1, dead_lettered=2, moved_to_retry=3, skipped=4, put_back=2, dropped=3)
    assert ledger.in_flight == 6
    assert ledger.balances


@pytest.mark.parametrize("end", ENDS)
def test_an_end_too_many_breaks_the_balance(end: str) -> None:
    assert Ledger(begun=3, **{end: 3}).balances
    assert not Ledger(begun=3, **{end: 4}).balances
