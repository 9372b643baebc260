"""Declarations of metrics, and their values as Prometheus reads them.

A metric is declared once, in one of the tables `WORKER_METRICS`, `KAFKA_METRICS`, `PROCESS_METRICS` and
`INGEST_METRICS`. A declaration says how its value is read, so a new metric is one row. The tables are plain tuples,
which anybody may list.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import accumulate
from typing import Any, Final, Generic, Literal, TypeVar, final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, core
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pushrail_stream.ports.kafka import ClientStatistics

_Source = TypeVar("_Source")
MetricFamily = core.Metric
Labels = str | tuple[str, ...]
"""The values of a metric's labels; a plain string if there is one label."""


@final
class Histogram:
    """Counts by upper bound. It costs a tenth of the client's own histogram, which locks and looks labels up."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_since(self, at_ms: int, now_ms: float) -> None:
        """Count the seconds since a time. Its clock may be ahead of ours, and no sum may fall."""
        secs = (now_ms - at_ms) / 1000
        if secs < 0:
            secs = 0.0
        self._counts[bisect_left(self._bounds, secs)] += 1
        self._sum += secs

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds with cumulative counts."""
        return list(zip((*map(str, self._bounds), "+Inf"), map(float, accumulate(self._counts)), strict=True))

    @property
    def sum(self) -> float:
        return self._sum


Value = float | Histogram
_FAMILIES: Final[Mapping[str, Callable[..., MetricFamily]]] = {
    "counter": core.CounterMetricFamily,
    "gauge": core.GaugeMetricFamily,
    "histogram": core.HistogramMetricFamily,
}


@final
@dataclass(frozen=True, slots=True)
class Metric(Generic[_Source]):
    """The declaration of a metric: its type, its name without Prometheus' suffixes, its help text and its labels."""

    type: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    read: Callable[[_Source], Value | Mapping[Any, Value]]
    """The metric's value as of now; with labels, its values by `Labels`."""
    labels: tuple[str, ...] = ()

    @property
    def exposed_name(self) -> str:
        """The name of its series: a counter's ends in ``_total``."""
        return f"{self.name}_total" if self.type == "counter" else self.name

    def collect(self, source: _Source) -> MetricFamily:
        """The metric's series as of now."""
        family = _FAMILIES[self.type](self.name, self.help, labels=self.labels)
        found = self.read(source)
        for labels, value in found.items() if isinstance(found, Mapping) else [((), found)]:
            names = (labels,) if isinstance(labels, str) else labels
            if isinstance(value, Histogram):
                family.add_metric(names, value.buckets, value.sum)  # type: ignore[attr-defined]
            else:
                family.add_metric(names, value)  # type: ignore[attr-defined]
        return family


@final
class Exposition(Collector):
    """Series as text, in Prometheus' format or in OpenMetrics where the client accepts it.

    Every process also has the series that Prometheus' clients share: ``process_*`` and ``python_info``.
    """

    def __init__(self, collect: Callable[[], Iterable[MetricFamily]]) -> None:
        self._collect = collect
        self._version = _version()
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=self._registry)
        self._registry.register(self)

    def collect(self) -> Iterable[MetricFamily]:
        yield from (metric.collect(self._version) for metric in PROCESS_METRICS)
        yield from self._collect()

    def __call__(self, accept: str) -> tuple[bytes, str]:
        """All series as of now, and their content type. ``accept`` is the request's header."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the library does not expect a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type


def _version() -> str:
    try:
        return metadata.version("pushrail-stream")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from its sources, not installed


PROCESS_METRICS: Final[tuple[Metric[str], ...]] = (
    Metric(
        "gauge", "pushrail_build_info", "1, with the version in a label.", lambda version: {version: 1}, ("version",)
    ),
)
"""Metrics of a process, beside those of Prometheus' client. Workers and ingest have them."""
_Clients = Mapping[str, ClientStatistics]


def _of_clients(value: Callable[[ClientStatistics], float]) -> Callable[[_Clients], dict[str, float]]:
    return lambda clients: {name: value(statistics) for name, statistics in clients.items()}


_CLIENT: Final = ("client",)
# fmt: off
KAFKA_METRICS: Final[tuple[Metric[_Clients], ...]] = (
    Metric("gauge", "pushrail_kafka_brokers_up", "Brokers that a client is connected to.",
           _of_clients(lambda s: s.brokers_up), _CLIENT),
    Metric("gauge", "pushrail_kafka_rtt_seconds", "Mean round trip time to the slowest broker.",
           _of_clients(lambda s: s.rtt_secs), _CLIENT),
    Metric("gauge", "pushrail_kafka_queued_records",
           "Records fetched and not handed over, or written and not acknowledged.",
           _of_clients(lambda s: s.queued), _CLIENT),
    Metric("counter", "pushrail_kafka_request_errors", "Requests that failed or were not answered in time.",
           _of_clients(lambda s: s.errors), _CLIENT),
    Metric("counter", "pushrail_kafka_rebalances", "Rebalances of a consumer's group.",
           _of_clients(lambda s: s.rebalances), _CLIENT),
)
# fmt: on
"""Metrics of Kafka clients, as librdkafka reports them. Workers and ingest have them."""
