"""Request limits: how large one PutEvents request may be in each region, learnt from refusals.

AWS raised its limit to 1 MiB, but not in all regions at once. A region that refuses a request of more than the former
limit gets requests within that from then on, until the process ends.
"""

from __future__ import annotations

from typing import Final, final

FORMER_MAX_REQUEST_BYTES: Final = 262_144
"""Largest sum of entry sizes in one call where AWS has not raised it (Amazon EventBridge quotas, before 2026-01-29)."""


@final
class RequestLimits:
    """The largest request of each region, in bytes as AWS counts entries."""

    __slots__ = ("_max_bytes", "_small_bytes", "_small_regions")

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: our own limit, for every region."""
        self._max_bytes = max_bytes
        self._small_bytes = min(max_bytes, FORMER_MAX_REQUEST_BYTES)
        self._small_regions: set[str] = set()

    def of(self, region: str) -> int:
        """The largest request of this region."""
        return self._small_bytes if region in self._small_regions else self._max_bytes

    def refused(self, region: str, size: int) -> bool:
        """Learn that a request of this size was too large for the region; whether the former limit explains it."""
        if size <= FORMER_MAX_REQUEST_BYTES:
            return False
        self._small_regions.add(region)
        return True
