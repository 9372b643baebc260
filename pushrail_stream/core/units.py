"""Units in which EventBridge bills events: each 64 KB chunk of an event's payload counts as one event."""

from __future__ import annotations

from typing import Final

UNIT_BYTES: Final = 65_536
"""Bytes of a unit (https://aws.amazon.com/eventbridge/pricing/)."""


def units_of(size: int) -> int:
    """The units of an entry of this size in bytes."""
    return -(-size // UNIT_BYTES)
