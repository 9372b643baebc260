"""Limits of ingest: memory for open requests, in total and per API key, and events per second and key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self, final

from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.ingest.errors import HttpProblem
from pushrail_stream.ingest.request import MAX_EVENTS
from pushrail_stream.settings.model import Settings

MAX_HEAD_BYTES: Final = 16 * 2**10
"""Largest head of a request, in bytes: its line and its headers."""
_REQUEST_COST: Final = MAX_HEAD_BYTES
"""Bytes that an open request counts besides its body, so that many small requests are limited too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """The limits that the settings choose."""

    max_body_bytes: int
    max_buffered_bytes: int
    max_events_per_second: int
    """Limit of one key."""
    max_entry_bytes: int
    """Bytes that fit in one call of the workers."""
    timeout_secs: float
    """Longest time for a head to arrive, and for a body."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings give."""
        chosen = settings.ingest
        return cls(
            max_body_bytes=chosen.max_body_mib * 2**20,
            max_buffered_bytes=chosen.max_buffered_mib * 2**20,
            max_events_per_second=chosen.max_events_per_second,
            max_entry_bytes=settings.delivery.max_request_bytes,
            timeout_secs=chosen.timeout_secs,
        )


@final
class RequestBuffer:
    """Counts the memory of open requests by the bytes that have arrived, not by the length they announce.

    One key gets at most half of it, so that a producer that sends much does not shut out the others.
    """

    def __init__(self, limits: IngestLimits) -> None:
        one = limits.max_body_bytes + _REQUEST_COST  # always fits
        self._max_bytes = max(limits.max_buffered_bytes, one)
        self._max_bytes_of_key = max(self._max_bytes // 2, one)
        self._of_keys = Counter[str]()
        self.taken_bytes = 0

    @contextmanager
    def reserve(self, key_id: str) -> Iterator[Callable[[int], None]]:
        """Room for one request until it is answered. Call it with a number of bytes before you keep them.

        Raises `HttpProblem` when there is no room for them.
        """
        held = 0

        def take(size: int) -> None:
            nonlocal held
            of_key = self._of_keys[key_id] + size
            if of_key > self._max_bytes_of_key or self.taken_bytes + size > self._max_bytes:
                whose = "of this API key " if of_key > self._max_bytes_of_key else ""
                raise HttpProblem(503, f"more {whose}is waiting for Kafka than may wait", headers={"Retry-After": "1"})
            held += size
            self._of_keys[key_id] = of_key
            self.taken_bytes += size

        try:
            take(_REQUEST_COST)
            yield take
        finally:
            self.taken_bytes -= held
            self._of_keys[key_id] -= held
            if not self._of_keys[key_id]:
                del self._of_keys[key_id]


@final
class RateLimiter:
    """Limits the events that each key posts per second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._buckets: dict[str, TokenBucket] = {}

    def spend(self, key_id: str, events: int, now: float) -> None:
        """Raises `HttpProblem` when the key may not post this number of events now. ``now``: monotonic seconds."""
        bucket = self._buckets.get(key_id)
        if bucket is None:
            bucket = self._buckets[key_id] = TokenBucket(self._per_second, max(self._per_second, MAX_EVENTS))
        wait_secs = bucket.wait_secs(now, events)
        if wait_secs:
            detail = f"this API key may post {self._per_second} events a second"
            raise HttpProblem(429, detail, headers={"Retry-After": str(int(wait_secs) + 1)})
        bucket.spend(now, events)
