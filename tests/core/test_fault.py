"""Faults: every reason for a dead letter has one answer."""

from __future__ import annotations

from typing import get_args

from pushrail_stream.core.fault import FAULTS, fault_of
from pushrail_stream.core.retry import DeadReason


def test_undecodable_records_are_the_producers_fault() -> None:
    reasons = get_args(DeadReason)
    by_fault = {fault: {reason for reason in reasons if fault_of(reason) == fault} for fault in FAULTS}
    assert by_fault == {
        "customer": {"rejected", "blocked", "suspended", "expired", "oversize"},
        "producer": {"undecodable"},
        "ours": set(),
    }
    assert fault_of("foreign") == "producer"


def test_an_event_without_any_vendor_is_our_fault() -> None:
    assert fault_of("undecodable", "vendor") == "ours"
    assert fault_of("undecodable", "pushrail-vendor") == "producer", "a header that is empty or no UTF-8"
    assert fault_of("rejected", "vendor") == "customer", "AWS may call an error anything"
