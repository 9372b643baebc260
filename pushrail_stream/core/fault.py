"""The party that caused a dead letter: the customer, the record's producer, or this installation."""

from __future__ import annotations

from typing import Final, Literal

from pushrail_stream.core.event import VENDOR_SETTING

Fault = Literal["customer", "producer", "ours"]
"""``customer``: their bus, their limits or their event. ``producer``: the writer of the record, us included.
``ours``: the settings of this installation."""
FAULTS: Final[tuple[Fault, ...]] = ("customer", "producer", "ours")

_CUSTOMERS: Final = frozenset({"rejected", "blocked", "suspended", "expired", "oversize"})


def fault_of(reason: str, code: str = "") -> Fault:
    """By reason and code of the dead letter (CONTRACTS.md, "Delivery headers"); an unknown reason is the producer's."""
    if reason == "undecodable" and code == VENDOR_SETTING:
        return "ours"
    return "customer" if reason in _CUSTOMERS else "producer"
