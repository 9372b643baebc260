"""Suspension: a destination that blocks every attempt gets no calls except probes.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import Final, final

from pushrail_stream.core.pacing import PROBES

SUSPEND_AFTER: Final = 5
"""Blocked attempts in a row after which a destination is suspended: a single one may be an accident."""
ASKED_PROBE_SECS: Final = 5.0
"""Shortest time between two probes that an operator's replays request."""


@final
class Suspension:
    """Whether a destination is suspended: it blocks every attempt, and gets no calls except probes with one delivery.

    The time between probes grows, and the first success ends the suspension. A delivery that is refused without a call
    does not count as an attempt. When a bus finds a call with one entry invalid, the event or the destination may be to
    blame. After several such calls in a row, with nothing delivered in between, it is the destination.
    """

    __slots__ = ("_blocked", "_failed_probes", "_refused", "_tried_at", "probe_at", "since")

    def __init__(self) -> None:
        self._blocked = 0
        self._refused = 0
        self._failed_probes = 0
        self._tried_at = 0.0
        self.since: float | None = None
        """Start of the suspension; None while there is none."""
        self.probe_at = 0.0
        """Time from which a delivery may probe the destination."""

    @property
    def is_clear(self) -> bool:
        """Whether no attempt was blocked or rejected since the last delivery, so that there is no state to keep."""
        return self._blocked == 0 and self._refused == 0

    @property
    def is_blocked(self) -> bool:
        """Whether the last attempts were blocked."""
        return self._blocked > 0

    def count_rejected(self) -> bool:
        """Count a call with one entry that was found invalid; return whether the destination is to blame by now."""
        self._refused += 1
        return self._refused >= SUSPEND_AFTER

    def count_blocked(self, now: float) -> bool:
        """Count a blocked attempt. Returns whether it suspends the destination, or was a failed probe."""
        self._blocked += 1
        if self.since is not None:
            if now < self.probe_at:
                return False  # sent before the suspension or the last probe began
            self._failed_probes += 1
        elif self._blocked >= SUSPEND_AFTER:
            self.since = now
        else:
            return False
        self._tried_at, self.probe_at = now, now + PROBES.pause_secs(self._failed_probes + 1)
        return True

    def end(self, now: float) -> float | None:
        """End the suspension after a delivery. Returns its seconds, or None when there was none."""
        secs = None if self.since is None else now - self.since
        self._blocked, self._refused, self._failed_probes, self.since, self.probe_at = 0, 0, 0, None, 0.0
        return secs

    def request_probe(self) -> None:
        """Probe soon, because an operator replays a delivery and the destination may be repaired."""
        self.probe_at = min(self.probe_at, self._tried_at + ASKED_PROBE_SECS)

    def probe_now(self) -> None:
        """Probe with the next delivery, because the document has changed."""
        self.probe_at = 0.0
