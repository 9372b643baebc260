"""Units in which a bus bills events: each 64 KB chunk of an event's payload counts as one event."""

from __future__ import annotations

from typing import Final

UNIT_BYTES: Final = 65_536
"""Bytes of a unit, as the bus's price list names them."""


def units_of(size: int) -> int:
    """The units of an entry of this size in bytes."""
    return -(-size // UNIT_BYTES)
