"""What metrics are made of: counts that cost next to nothing, and how they are shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar, final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_Labels = TypeVar("_Labels", bound=tuple[str, ...])


@final
class Histogram:
    """Counts by upper bound: a tenth of the cost of the client's own, which locks and looks labels up."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def show(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Add what was counted as a series."""
        bounds = (*map(str, self._bounds), "+Inf")
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        family.add_metric(labels, buckets, self._sum)


@final
class Exposition:
    """A collector's series as text: Prometheus' own, or OpenMetrics where that is accepted."""

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)

    def __call__(self, accept: str) -> tuple[bytes, str]:
        """Everything as of now, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number: the library compares it all the same
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type


def histogram(name: str, documentation: str, labels: Sequence[str], histograms: Mapping[_Labels, Histogram]) -> Metric:
    """Histograms by the values of their labels."""
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for values, counts in histograms.items():
        counts.show(family, values)
    return family


def counter(name: str, documentation: str, labels: Sequence[str], counts: Mapping[_Labels, float]) -> Metric:
    """Counts by the values of their labels."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
