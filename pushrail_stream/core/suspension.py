"""Suspension: a destination that blocks everything is left alone and probed with one real delivery now and then.

The probes come further and further apart; the first success ends it. What is refused without a call counts for nothing.

A call with one entry that the bus finds invalid may be the event's fault or the destination's. After several in a row,
with nothing delivered in between, the destination is taken to be at fault.
"""

from __future__ import annotations

from typing import Final, final

SUSPEND_AFTER: Final = 5
"""Blocked attempts in a row after which a destination is suspended: a single one may be an accident."""
FIRST_PROBE_SECS: Final = 30.0
LAST_PROBE_SECS: Final = 600.0
"""Probes come at most so far apart."""
ASKED_PROBE_SECS: Final = 5.0
"""Probes that somebody asks for come at least so far apart."""


@final
class Suspension:
    """Whether a destination is suspended. Times are seconds of one monotonic clock."""

    __slots__ = ("_blocked", "_pause", "_refused", "_tried_at", "probe_at", "since")

    def __init__(self) -> None:
        self._blocked = 0
        self._refused = 0
        self._pause = FIRST_PROBE_SECS
        self._tried_at = 0.0
        self.since: float | None = None
        """When it was suspended; None while it is not."""
        self.probe_at = 0.0
        """From when on a delivery may probe it."""

    @property
    def is_clear(self) -> bool:
        """Whether nothing speaks against the destination: there is no state worth keeping."""
        return self._blocked == 0 and self._refused == 0

    def count_rejected(self) -> bool:
        """Count a call with one entry that was found invalid; return whether the destination is to blame by now."""
        self._refused += 1
        return self._refused >= SUSPEND_AFTER

    def count_blocked(self, now: float) -> bool:
        """An attempt was blocked. Whether that suspends the destination, or was a probe of it in vain."""
        self._blocked += 1
        if self.since is not None:
            if now < self.probe_at:
                return False  # sent before the suspension or the probe before: it says nothing new
            self._pause = min(2 * self._pause, LAST_PROBE_SECS)
        elif self._blocked >= SUSPEND_AFTER:
            self.since = now
        else:
            return False
        self._tried_at, self.probe_at = now, now + self._pause
        return True

    def end(self, now: float) -> float | None:
        """The destination took a delivery: how long it was suspended, None when it was not."""
        secs = None if self.since is None else now - self.since
        self._blocked, self._refused, self._pause, self.since, self.probe_at = 0, 0, FIRST_PROBE_SECS, None, 0.0
        return secs

    def request_probe(self) -> None:
        """Somebody sends again what it has refused, so it may be mended: do not wait for long."""
        self.probe_at = min(self.probe_at, self._tried_at + ASKED_PROBE_SECS)

    def probe_now(self) -> None:
        """Its document changed: what stood in the way may be gone."""
        self.probe_at = 0.0
