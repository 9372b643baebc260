"""What ingest takes: how much at once, of everybody and of one key, and how much in a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.ingest.errors import HttpProblem
from pushrail_stream.ingest.openapi import MAX_EVENTS
from pushrail_stream.settings.eventbridge import MAX_REQUEST_BYTES

MAX_HEAD_BYTES: Final = 16 * 2**10
"""Of a request: its line and its headers."""
_REQUEST_COST: Final = MAX_HEAD_BYTES
"""What a request takes besides its body: also small ones have a bound together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """What is taken, and how long it may take."""

    max_body_bytes: int
    max_buffered_bytes: int
    max_events_per_second: int
    """Of one key."""
    max_entry_bytes: int = MAX_REQUEST_BYTES
    """What fits in one PutEvents call of the workers."""
    timeout_secs: float
    """For a head to come, and for a body."""


@final
class RequestBuffer:
    """Holds the requests that are not answered yet, each counted by what has come of it and not by what it announces.

    One key has half of the room at most: who sends much, or nothing of what was announced, shuts out nobody else.
    """

    def __init__(self, limits: IngestLimits) -> None:
        one = limits.max_body_bytes + _REQUEST_COST  # always fits
        self._max_calls = max(limits.max_buffered_bytes, one)
        self._most_of_one_key = max(self._max_calls // 2, one)
        self._of_keys = Counter[str]()
        self.taken_bytes = 0

    @contextmanager
    def place(self, key_id: str) -> Iterator[Callable[[int], None]]:
        """A place for one request until it is answered; to be called with bytes before they are kept.

        Raises `HttpProblem` when there is no room for them.
        """
        held = 0

        def take(size: int) -> None:
            nonlocal held
            of_key = self._of_keys[key_id] + size
            if of_key > self._most_of_one_key or self.taken_bytes + size > self._max_calls:
                whose = "of this API key " if of_key > self._most_of_one_key else ""
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
    """How much each key may still post."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._buckets: dict[str, TokenBucket] = {}

    def spend(self, key_id: str, events: int, now: float) -> None:
        """Raises `HttpProblem` when the key may not post so many now. ``now``: seconds of a monotonic clock."""
        bucket = self._buckets.get(key_id)
        if bucket is None:
            bucket = self._buckets[key_id] = TokenBucket(self._per_second, max(self._per_second, MAX_EVENTS))
        wait_secs = bucket.take(events, now)
        if wait_secs:
            detail = f"this API key may post {self._per_second} events a second"
            raise HttpProblem(429, detail, headers={"Retry-After": str(int(wait_secs) + 1)})
