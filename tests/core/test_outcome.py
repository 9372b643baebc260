"""Outcomes that ask for less speed."""

from __future__ import annotations

import pytest

from pushrail_stream.core.outcome import (
    CONNECT_TIMEOUT,
    HOLD_EXCEEDED,
    READ_TIMEOUT,
    Blocked,
    Delivered,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    asks_for_less,
)


@pytest.mark.parametrize(
    "outcome",
    [Throttled("SLOWER", ""), *(Retryable(code, "") for code in (CONNECT_TIMEOUT, READ_TIMEOUT, HOLD_EXCEEDED))],
)
def test_a_throttled_or_silent_bus_asks_for_less(outcome: Outcome) -> None:
    assert asks_for_less(outcome)


@pytest.mark.parametrize(
    "outcome", [Delivered("event"), Retryable("CLOSED", ""), Rejected(READ_TIMEOUT, ""), Blocked("STRANGER", "")]
)
def test_no_other_outcome_asks_for_less(outcome: Outcome) -> None:
    assert not asks_for_less(outcome)
