"""A batch, deliveries of one destination that fit one call to its bus; and the attempt to deliver it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, final

if TYPE_CHECKING:
    from pushrail_stream.core.delivery import Delivery
    from pushrail_stream.core.destination import Destination
    from pushrail_stream.core.lane import Lane

Flush = Literal["entries", "bytes", "time", "retry", "alone"]
"""The reason for a batch to leave: it was full (by entries or bytes), its first entry had waited long enough, a retry
was due, or its entry goes alone because a batch was refused as a whole."""
_MIN_CALL_SECS: Final = 2.0
"""Seconds that the first call gets for its reply, also when its deliveries have waited for almost `hold_secs`."""


class CallLimits(NamedTuple):
    """The most that one call to a bus carries."""

    max_entries: int
    max_bytes: int
    """Sum of the entries' sizes, as the bus counts them."""

    def within(self, other: CallLimits) -> CallLimits:
        """The limits that respect both."""
        return CallLimits(min(self.max_entries, other.max_entries), min(self.max_bytes, other.max_bytes))

    def including(self, other: CallLimits) -> CallLimits:
        """The limits that allow what either allows."""
        return CallLimits(max(self.max_entries, other.max_entries), max(self.max_bytes, other.max_bytes))


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Our own limits on a batch, and on the time for which any delivery may hold back a commit."""

    max_entries: int
    max_bytes: int
    """A bus that takes less gets less."""
    hold_secs: float

    def __post_init__(self) -> None:
        if self.max_entries < 1 or self.max_bytes < 1:
            raise ValueError("a batch has at least one entry, and an entry at least one byte")
        if not self.hold_secs > 0:
            raise ValueError(f"no batch can leave within {self.hold_secs} seconds")

    @property
    def call(self) -> CallLimits:
        """The most that we put into one call."""
        return CallLimits(self.max_entries, self.max_bytes)


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of one call. A batch that is empty, mixed or over the limits cannot be made."""

    destination: Destination
    deliveries: tuple[Delivery, ...]
    limits: CallLimits
    flush: Flush = "time"

    def __post_init__(self) -> None:
        max_entries, max_bytes = self.limits
        if not 1 <= len(self.deliveries) <= max_entries:
            raise ValueError(f"a batch has 1 to {max_entries} deliveries, not {len(self.deliveries)}")
        size = 0
        for delivery in self.deliveries:
            if delivery.destination_id != self.destination.id:
                raise ValueError(f"{delivery} is not for {self.destination.id}")
            size += delivery.size
        if size > max_bytes:
            raise ValueError(f"a batch has at most {max_bytes} bytes, not {size}")

    @property
    def size(self) -> int:
        """Sum of the entries' sizes in bytes, as the bus counts them."""
        return sum(delivery.size for delivery in self.deliveries)

    def is_revoked(self) -> bool:
        """Whether the partition of one of its deliveries was revoked."""
        return any(delivery.pending.is_revoked for delivery in self.deliveries)


@final
class Attempt:
    """One try to deliver a batch that its lane has given out. Times are seconds of one monotonic clock.

    It takes one call in most cases, and several when the bus asks for that.
    """

    __slots__ = ("batch", "cuts", "deadline", "is_probe", "lane", "refreshed")

    def __init__(self, lane: Lane, batch: Batch, now: float) -> None:
        self.lane = lane
        self.batch = batch
        self.cuts = lane.health.window.cuts
        """Cuts of the lane's window before the attempt began."""
        hold_until = min(now + lane.hold_secs, *[delivery.hold_until for delivery in batch.deliveries])
        self.deadline = max(now + _MIN_CALL_SECS, hold_until)
        """The end of all its calls: its deliveries must not hold back their partitions' commits any longer."""
        self.is_probe = lane.is_suspended
        """Whether it probes a suspended destination."""
        self.refreshed = False
        """Whether the bus has dropped stale credentials, so that the call is made once more."""

    @property
    def is_refused(self) -> bool:
        """Whether the destination was suspended after the attempt began."""
        return self.lane.is_suspended and not self.is_probe

    @property
    def is_over(self) -> bool:
        """Whether no further call may be made: a partition was revoked, or the destination was suspended."""
        return self.batch.is_revoked() or self.is_refused
