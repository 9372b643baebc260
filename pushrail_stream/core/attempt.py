"""An attempt: one try to deliver a batch. It takes one call in most cases, and several when the bus asks for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from pushrail_stream.core.batch import Batch

if TYPE_CHECKING:
    from pushrail_stream.core.lane import Lane

_MIN_CALL_SECS: Final = 2.0
"""Seconds that the first call gets for its reply, also when its deliveries have waited for almost `hold_secs`."""


@final
class Attempt:
    """A batch that its lane has given out. Times are seconds of one monotonic clock."""

    __slots__ = ("batch", "deadline", "is_probe", "lane", "refreshed", "round")

    def __init__(self, lane: Lane, batch: Batch, now: float) -> None:
        self.lane = lane
        self.batch = batch
        self.round = lane.health.window.round
        """The round of the lane's window in which the attempt began."""
        self.deadline = max(now + _MIN_CALL_SECS, min(delivery.hold_until for delivery in batch.deliveries))
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
