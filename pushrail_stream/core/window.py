"""The window: the number of calls to a destination that may be in flight.

It is halved when the destination throttles, and grows by one with each clean window, that is, when as many calls as it
holds were not throttled. As in TCP, a call that was sent before the last cut causes no further cut. Two calls in a row
that fail as a whole count as throttling; a single failure does not. A window of one call cannot be cut: then a pause
follows each throttled call, and each pause is longer than the one before.
"""

from __future__ import annotations

from typing import final


@final
class Window:
    """A number of calls from 1 to the destination's own limit."""

    __slots__ = ("_clean", "_cut", "_failed", "pauses", "round")

    def __init__(self) -> None:
        self._cut: int | None = None
        self._clean = 0
        self._failed = False
        self.round = 0
        """The number of cuts so far. A call belongs to the round in which it was sent."""
        self.pauses = 0
        """Cuts in a row that found the window at one call. The pause before the next call grows with them."""

    def size(self, limit: int) -> int:
        """Calls that may be in flight when the destination allows ``limit``."""
        return limit if self._cut is None else min(self._cut, limit)

    @property
    def is_cut(self) -> bool:
        """Whether fewer calls may be in flight than the destination's own limit, so that there is a state to keep."""
        return self._cut is not None

    def answered(self) -> None:
        """Note that a call was answered with a result for each entry."""
        self._failed = False

    def failed(self) -> bool:
        """Note that a call failed as a whole. Returns whether the one before did too."""
        failed_before, self._failed = self._failed, True
        return failed_before

    def count_clean(self, limit: int) -> bool:
        """Note that a call was not throttled. Returns whether the window has grown."""
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
        """Note that a call of this round was throttled, or ``partly`` so. Returns whether the window was cut."""
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
