"""Outcomes: a bus that gives no answer in time is silent."""

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
    is_silence,
)


@pytest.mark.parametrize("code", [CONNECT_TIMEOUT, READ_TIMEOUT, HOLD_EXCEEDED])
def test_a_time_out_is_silence(code: str) -> None:
    assert is_silence(Retryable(code, ""))


@pytest.mark.parametrize(
    "outcome",
    [
        Delivered("event"),
        Throttled(READ_TIMEOUT, ""),
        Retryable("CLOSED", ""),
        Rejected(READ_TIMEOUT, ""),
        Blocked("STRANGER", ""),
    ],
)
def test_no_other_outcome_is_silence(outcome: Outcome) -> None:
    assert not is_silence(outcome)
