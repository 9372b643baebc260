"""The window: how many calls to a destination may be in flight. Halved when it throttles, one more per clean window.

Two calls in a row that fail as a whole count as throttling. A single failure does not.

As in TCP: what was sent before the window was cut says nothing new about the cut one, and a window is clean when as
many calls as it holds went through. Below one call at a time there is only waiting between calls, longer each time.
"""

from __future__ import annotations

from typing import final


@final
class Window:
    """Calls that may be in flight at once, from 1 to the destination's own limit."""

    __slots__ = ("_clean", "_cut", "_failed", "pauses", "round")

    def __init__(self) -> None:
        self._cut: int | None = None
        self._clean = 0
        self._failed = False
        self.round = 0
        """Grows with every cut: a call belongs to the round it was sent in."""
        self.pauses = 0
        """Throttles in a row that found the window at one call: the pause before the next call grows with them."""

    def size(self, limit: int) -> int:
        """Calls that may be in flight, where the destination allows ``limit``."""
        return limit if self._cut is None else min(self._cut, limit)

    @property
    def is_open(self) -> bool:
        """Whether nothing holds it back: there is no state worth keeping."""
        return self._cut is None

    def answered(self) -> None:
        """A call was answered, entry by entry."""
        self._failed = False

    def failed(self) -> bool:
        """A call failed as a whole; whether the one before it did too."""
        failed_before, self._failed = self._failed, True
        return failed_before

    def went_through(self, limit: int) -> bool:
        """A call was not throttled; whether the window has grown."""
        self.pauses = 0
        if self._cut is None:
            return False
        self._clean += 1
        if self._clean < self._cut:
            return False
        self._clean = 0
        self._cut = None if self._cut + 1 >= limit else self._cut + 1
        return True

    def throttled(self, sent_in: int, limit: int, *, partly: bool = False) -> bool:
        """A call sent in this round was throttled, or some of its entries (``partly``); whether the window was cut."""
        if partly:
            self.pauses = 0
        if sent_in != self.round:
            return False
        self.round += 1
        self._clean = 0
        size = self.size(limit)
        if size == 1 and not partly:
            self.pauses += 1
        self._cut = max(1, size // 2)
        return True
