"""Whose fault a dead letter is: the customer's side can mend it, what produced the record has to, or we have to."""

from __future__ import annotations

from typing import Final, Literal

from pushrail_stream.core.event import VENDOR_SETTING

Fault = Literal["customer", "producer", "ours"]
"""``customer``: their bus, their limits or their event. ``producer``: what wrote the record, us included.
``ours``: the settings of this installation."""
FAULTS: Final[tuple[Fault, ...]] = ("customer", "producer", "ours")

_CUSTOMERS: Final = frozenset({"rejected", "blocked", "suspended", "expired", "oversize"})


def fault_of(reason: str, code: str = "") -> Fault:
    """By reason and code of the dead letter (contract 3.4); a reason that is none of ours is the producer's."""
    if reason == "undecodable" and code == VENDOR_SETTING:
        return "ours"
    return "customer" if reason in _CUSTOMERS else "producer"
