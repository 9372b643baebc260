"""The window: the calls that a destination may have in flight. It grows while that makes the destination faster.

A destination starts at its usual size. A round is as many calls as the window holds that went through, and at least a
twentieth of a second. After each round a window below its usual size grows. Beyond it, a window grows only while full
batches wait for a free call and calls take hardly longer than the quickest. When calls take much longer, more of them
would only queue, and it shrinks.

A destination that throttles gets half, down to one call, and stays below the size at which it began to throttle. A call
that was sent before the last cut causes no further cut, as in TCP. A window of one call cannot be cut: then a pause
follows each throttled call, and each pause is longer than the one before. When calls fail as a whole, a grown window
goes back to its usual size, and another one is halved. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import Final, final

USUAL: Final = 8
"""Calls in flight of a destination that nothing is known about. They make 1,600 events/s at a round trip of 50 ms."""
_GROWTH: Final = 8
"""A round adds one call and an eighth of the size: from 8 to 64 in 14 rounds, 0.7 s at a round trip of 50 ms."""
_ROUND_SECS: Final = 0.05
"""Shortest length of a round. On a bus without a round trip, 8 calls take 10 ms, and the mean of so few is chance: of
592 such rounds 91 looked quick enough to grow, of 102 rounds of this length none."""
_SLOWER: Final = 2.0
"""Factor on the quickest call. More calls of a bus that is far away take as long as one; those of a busy one queue."""
_SLACK_SECS: Final = 0.002
"""Seconds that calls may take longer beside the factor: the event loop's clock has a resolution of a millisecond. With
10 ms, windows grew on a bus without a round trip, and cost 5 to 9 µs of CPU time per event."""
_SPAN_SECS: Final = 30.0
"""Length of a span. The quickest call is that of two spans, the last minute."""
_THROTTLED_SECS: Final = 60.0
"""Seconds for which a window stays below the size at which its destination began to throttle. Quotas change seldom."""


@final
class Window:
    """The number of calls that may be in flight, from 1 to the destination's own limit."""

    __slots__ = (
        "_below", "_below_until", "_calls", "_has_waited", "_is_refusing", "_quickest", "_quickest_before", "_round_at",
        "_secs", "_since", "_size", "cuts", "limit", "pauses", "size", "usual",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._size = USUAL
        """The size, where the destination allows it."""
        self.allow(limit)
        self._below = limit
        self._below_until = float("-inf")
        self._is_refusing = False
        """Whether no call went through since the last cut for throttling."""
        self._has_waited = False
        """Whether a full batch has waited for a free call in this round."""
        self._round_at = float("-inf")
        """Start of this round."""
        self._calls = 0
        """Calls of this round that went through, and the seconds that they took together."""
        self._secs = 0.0
        self._quickest = self._quickest_before = float("inf")
        """Seconds of the quickest call of this span, and of the span before."""
        self._since = float("-inf")
        self.cuts = 0
        """The number of cuts so far."""
        self.pauses = 0
        """Cuts in a row that found the window at one call. The pause before the next call grows with them."""

    def allow(self, limit: int) -> None:
        """The destination allows this number of calls. A changed document changes it at once."""
        self.limit = limit
        self.usual = min(USUAL, limit)
        """The size at which the destination started."""
        self._resize(self._size)

    def is_plain(self, now: float) -> bool:
        """Whether the window is as that of a new destination, so that there is no state to keep."""
        return self.size == self.usual and self.pauses == 0 and now >= self._below_until

    @property
    def is_grown_to_limit(self) -> bool:
        """Whether it has grown as far as its destination allows: the bus is far, and the worker has time for more."""
        return self.usual < self.size == self.limit

    def note_wait(self) -> None:
        """A full batch waits, because as many calls are in flight as the window holds."""
        self._has_waited = True

    def went_through(self, secs: float, now: float) -> None:
        """A call was not throttled and took ``secs``."""
        self.pauses = 0
        self._is_refusing = False
        self._note_quickest(secs, now)
        self._calls += 1
        self._secs += secs
        if self._calls >= self.size and now - self._round_at >= _ROUND_SECS:
            self._adjust(now)
            self._begin_round(now)

    def throttled(self, cuts: int, now: float, *, partly: bool = False) -> bool:
        """A call that began after this number of cuts was throttled, or ``partly`` so. Returns whether it is a cut."""
        if partly:
            self.pauses = 0
        if cuts != self.cuts:
            return False
        size = self.size
        if partly or not self._is_refusing:
            self._below = size
        if size == 1 and not partly:
            self.pauses += 1
        self._is_refusing = True
        self._below_until = now + _THROTTLED_SECS
        self._cut(max(1, size // 2), now)
        return True

    def failed(self, cuts: int, now: float) -> None:
        """A call that began after this number of cuts failed as a whole."""
        if cuts == self.cuts:
            self._cut(self.usual if self.size > self.usual else max(1, self.size // 2), now)

    def _adjust(self, now: float) -> None:
        size, mean = self.size, self._secs / self._calls
        quick_secs = _SLOWER * min(self._quickest, self._quickest_before) + _SLACK_SECS
        if size < self.usual or (self._has_waited and mean <= quick_secs):
            most = min(self.limit, self._below - 1) if now < self._below_until else self.limit
            self._resize(max(self._size, min(size + 1 + size // _GROWTH, most)))
        elif size > self.usual and mean > 2 * quick_secs:
            self._resize(size - 1)

    def _cut(self, size: int, now: float) -> None:
        self._resize(size)
        self.cuts += 1
        self._begin_round(now)

    def _resize(self, size: int) -> None:
        self._size = size
        self.size = min(size, self.limit)
        """Calls that may be in flight."""

    def _begin_round(self, now: float) -> None:
        self._round_at, self._calls, self._secs, self._has_waited = now, 0, 0.0, False

    def _note_quickest(self, secs: float, now: float) -> None:
        if now - self._since >= _SPAN_SECS:
            is_next = now - self._since < 2 * _SPAN_SECS
            self._quickest_before = self._quickest if is_next else float("inf")
            self._quickest, self._since = secs, now
        elif secs < self._quickest:
            self._quickest = secs
