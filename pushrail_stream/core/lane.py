"""The lane: one destination's queue, its batching and its pace. A state machine; time comes in as an argument.

Rules. A batch leaves when it is full (entries or bytes), when its first entry has waited ``flush_secs``, or when a
retry in it is due. At most ``max_in_flight`` batches are under way, and calls are spaced by the destination's rate.
What has to go alone goes alone. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.entry import MAX_ENTRIES, MAX_REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full, and how long its first entry waits for company."""

    max_entries: int = MAX_ENTRIES
    max_bytes: int = 1_000_000
    """Below AWS's 1,048,576: an event near the limit can be accepted and then vanish at the target (facts 1.2)."""
    flush_secs: float = 0.1

    def __post_init__(self) -> None:
        if not (1 <= self.max_entries <= MAX_ENTRIES and 1 <= self.max_bytes <= MAX_REQUEST_BYTES):
            raise ValueError(f"a batch has at most {MAX_ENTRIES} entries and {MAX_REQUEST_BYTES} bytes")
        if not self.flush_secs >= 0:
            raise ValueError(f"the first entry of a batch cannot wait {self.flush_secs} seconds")


@final
class Lane:
    """A destination's deliveries that are not settled and not under way."""

    __slots__ = ("_alone", "_fresh", "_fresh_bytes", "_limits", "_next_call_at", "_order", "_waiting", "destination",
                 "in_flight")  # fmt: skip

    def __init__(self, destination: Destination, limits: BatchLimits) -> None:
        self.destination = destination
        self.in_flight = 0
        """Batches taken and not yet finished."""
        self._limits = limits
        self._fresh: deque[Delivery] = deque()
        self._fresh_bytes = 0
        self._alone: deque[Delivery] = deque()
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._order = 0
        self._next_call_at = float("-inf")

    def __len__(self) -> int:
        """Deliveries waiting here; those under way are not counted."""
        return len(self._fresh) + len(self._alone) + len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way: the lane may be forgotten."""
        return self.in_flight == 0 and len(self) == 0

    def offer(self, delivery: Delivery, now: float) -> bool:
        """Queue a delivery; whether it made a batch ready or is the first to wait, so that somebody must look."""
        delivery.offered_at = now
        self._fresh.append(delivery)
        self._fresh_bytes += delivery.size
        return len(self._fresh) == 1 or self._is_full

    def retry(self, delivery: Delivery, at: float) -> None:
        """Queue a delivery again: not before ``at``, or at once and without neighbours when it has to go alone."""
        if delivery.alone:
            self._alone.append(delivery)
            return
        heapq.heappush(self._waiting, (at, self._order, delivery))
        self._order += 1

    def take(self, now: float) -> Batch | None:
        """The next batch, now under way until `finish`; None when there is none to send yet."""
        if self.in_flight >= self.destination.limits.max_in_flight or now < self._next_call_at:
            return None
        if self._alone:
            picked = [self._alone.popleft()]
            picked[0].alone = False  # once: alone, a refusal of the call is a refusal of the entry
        elif self._is_ripe(now):
            picked = self._pick(now)
        else:
            return None
        self.in_flight += 1
        if self.destination.limits.max_requests_per_second is not None:
            self._next_call_at = now + 1 / self.destination.limits.max_requests_per_second
        return Batch(self.destination, tuple(picked))

    def finish(self) -> None:
        """A batch that was taken has its outcomes. Finishing more than was taken is a bug and raises."""
        if self.in_flight == 0:
            raise RuntimeError(f"lane {self.destination.id} finished a batch it never took")
        self.in_flight -= 1

    def wake_at(self) -> float | None:
        """When `take` may have a batch; None when only an offer or a finish can change that."""
        if self.in_flight >= self.destination.limits.max_in_flight or len(self) == 0:
            return None
        if self._alone or self._is_full:
            return self._next_call_at
        flush_at = self._fresh[0].offered_at + self._limits.flush_secs if self._fresh else float("inf")
        retry_at = self._waiting[0][0] if self._waiting else float("inf")
        return max(min(flush_at, retry_at), self._next_call_at)

    def drop(self, is_gone: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out every waiting delivery for which ``is_gone`` holds, unsent."""
        gone = [delivery for delivery in self._all() if is_gone(delivery)]
        if gone:
            self._fresh = deque(d for d in self._fresh if not is_gone(d))
            self._fresh_bytes = sum(d.size for d in self._fresh)
            self._alone = deque(d for d in self._alone if not is_gone(d))
            self._waiting = [item for item in self._waiting if not is_gone(item[2])]
            heapq.heapify(self._waiting)
        return gone

    @property
    def _is_full(self) -> bool:
        return len(self._fresh) >= self._limits.max_entries or self._fresh_bytes >= self._limits.max_bytes

    def _is_ripe(self, now: float) -> bool:
        if self._is_full or (self._waiting and self._waiting[0][0] <= now):
            return True
        return bool(self._fresh) and self._fresh[0].offered_at + self._limits.flush_secs <= now

    def _pick(self, now: float) -> list[Delivery]:
        """Due retries first, for they are the oldest; then what is fresh, ripe or not."""
        limits, picked, size = self._limits, list[Delivery](), 0
        waiting, fresh = self._waiting, self._fresh
        while len(picked) < limits.max_entries:
            due = bool(waiting) and waiting[0][0] <= now
            if not due and not fresh:
                break
            candidate = waiting[0][2] if due else fresh[0]
            if picked and size + candidate.size > limits.max_bytes:
                break
            size += candidate.size
            picked.append(candidate)
            if due:
                heapq.heappop(waiting)
            else:
                fresh.popleft()
                self._fresh_bytes -= candidate.size
        return picked

    def _all(self) -> Iterator[Delivery]:
        yield from self._fresh
        yield from self._alone
        for _, _, delivery in self._waiting:
            yield delivery
