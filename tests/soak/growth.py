"""The growth of memory for each replaced destination."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Final, NamedTuple

_FEWEST: Final = 6
"""Samples that a slope needs."""


class Sample(NamedTuple):
    """An idle worker's memory after some destinations have been replaced."""

    replaced: int
    rss: int
    """Bytes."""


def growth_per_replaced(samples: Sequence[Sample]) -> float | None:
    """Bytes for each replaced destination; None while there are too few samples.

    The first half of the samples is left out: caches fill, and the allocator finds its size. The growth is the median
    of the slopes between every two of the others (Theil-Sen), which a few outliers do not change: a worker holds more
    memory for a while when a burst of calls needs new connections, or before it collects reference cycles.
    """
    warm = samples[len(samples) // 2 :]
    if len(warm) < _FEWEST:
        return None
    return statistics.median(
        (later.rss - earlier.rss) / (later.replaced - earlier.replaced) for earlier, later in combinations(warm, 2)
    )
