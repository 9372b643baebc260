"""How much memory grows for each destination that was replaced."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

_WARM_UP: Final = 3
"""A third of the samples: caches fill, and the allocator finds its size."""
_FEWEST: Final = 6
"""Samples after the warm-up that a slope needs."""


class Sample(NamedTuple):
    """A worker's memory after some destinations have been replaced."""

    replaced: int
    rss: int
    """Bytes."""


def growth_per_replaced(samples: Sequence[Sample]) -> float | None:
    """Bytes for each replaced destination, by the slope after the warm-up; None while there are too few samples."""
    warm = samples[len(samples) // _WARM_UP :]
    if len(warm) < _FEWEST:
        return None
    return statistics.linear_regression([s.replaced for s in warm], [s.rss for s in warm]).slope
