"""Periods of time that may overlap, merged so that a question costs a look-up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import final


@final
class Periods:
    """A set of periods, their ends included."""

    def __init__(self, periods: Iterable[tuple[float, float]]) -> None:
        self._merged: list[tuple[float, float]] = []
        for since, until in sorted(periods):
            if self._merged and since <= self._merged[-1][1]:
                self._merged[-1] = self._merged[-1][0], max(self._merged[-1][1], until)
            else:
                self._merged.append((since, until))

    def meet(self, since: float, until: float) -> bool:
        """Whether one of them has a moment in common with this period."""
        index = bisect_right(self._merged, (until, float("inf"))) - 1
        return index >= 0 and self._merged[index][1] >= since

    def __contains__(self, at: float) -> bool:
        return self.meet(at, at)
