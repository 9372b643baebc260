"""Whose fault: every reason for a dead letter has one answer, the same everywhere."""

from __future__ import annotations

from typing import get_args

from pushrail_stream.core.fault import FAULTS, fault_of
from pushrail_stream.core.retry import DeadReason


def test_what_is_no_event_is_the_producers_and_all_else_the_customers() -> None:
    by_fault = {fault: {reason for reason in get_args(DeadReason) if fault_of(reason) == fault} for fault in FAULTS}
    assert by_fault == {
        "customer": {"rejected", "blocked", "suspended", "expired", "oversize"},
        "producer": {"undecodable"},
    }
    assert fault_of("foreign") == "producer"
