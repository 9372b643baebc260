"""Whose fault a dead letter is: the customer's side can mend it, or what produced the record has to."""

from __future__ import annotations

from typing import Final, Literal

Fault = Literal["customer", "producer"]
"""``customer``: their bus, their limits or their event. ``producer``: what wrote the record, us included."""
FAULTS: Final[tuple[Fault, ...]] = ("customer", "producer")

_CUSTOMERS: Final = frozenset({"rejected", "blocked", "suspended", "expired", "oversize"})


def fault_of(reason: str) -> Fault:
    """By the reason of the dead letter (contract 3.4); a reason that is none of ours is the producer's."""
    return "customer" if reason in _CUSTOMERS else "producer"
