"""Metrics of ingest: requests, events and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pushrail_stream.core.signals import ApiKeysChanged, RequestAnswered, Signal
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.series import Exposition, Histogram, counter, histogram
from pushrail_stream.observe.standing import kafka_clients
from pushrail_stream.ports.kafka import ClientStatistics

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STATUSES: Final = (
    "202", "400", "401", "403", "404", "405", "408", "411", "413", "415", "422", "429", "431", "500", "503",
)  # fmt: skip


@final
class IngestMetrics(Collector):
    """Sees what ingest answers, and shows what it has counted when it is asked."""

    def __init__(self) -> None:
        self.exposition = Exposition(self)
        self.buffered_bytes: Callable[[], int] = lambda: 0
        self.waiting: Callable[[], int] = lambda: 0
        self.active_keys: Callable[[], int] = lambda: 0
        self.kafka: Callable[[], Mapping[str, ClientStatistics]] = dict
        self._requests = Counter({(status,): 0 for status in _STATUSES})
        self._events = Counter({(outcome,): 0 for outcome in ("accepted", "rejected", "failed")})
        self._keys_bad = 0
        self._bytes = 0
        self._seconds = Histogram(_SECONDS)

    def __call__(self, signal: Signal) -> None:
        """See one signal."""
        match signal:
            case RequestAnswered():
                self._requests[(str(signal.status),)] += 1
                self._events[("accepted",)] += signal.accepted
                self._events[("rejected",)] += signal.rejected
                self._events[("failed",)] += signal.failed
                self._bytes += signal.size
                self._seconds.observe(signal.secs)
            case ApiKeysChanged():
                self._keys_bad = int(bool(signal.problem))
            case _:
                pass

    def collect(self) -> Iterator[Metric]:
        """Every series, as of now."""
        yield counter("pushrail_ingest_requests", "Requests answered.", ("status",), self._requests)
        yield histogram(
            "pushrail_ingest_request_seconds", "From a request's head to its answer.", (), {(): self._seconds}
        )
        yield counter("pushrail_ingest_events", "Events posted, by what became of them.", ("outcome",), self._events)
        yield CounterMetricFamily("pushrail_ingest_body_bytes", "Bytes of the bodies that were read.", self._bytes)
        yield CounterMetricFamily(
            "pushrail_ingest_log_lines_lost", "Log lines that could not be written.", LogStream.lost_lines
        )
        for name, documentation, value in (
            ("pushrail_ingest_buffered_bytes", "What requests not yet answered take.", self.buffered_bytes()),
            ("pushrail_ingest_unacknowledged", "Events that Kafka has not acknowledged yet.", self.waiting()),
            ("pushrail_ingest_api_keys", "API keys in use.", self.active_keys()),
            ("pushrail_ingest_keys_file_bad", "Whether the file of API keys cannot be read as it is.", self._keys_bad),
        ):
            yield GaugeMetricFamily(name, documentation, value)
        yield from kafka_clients(self.kafka())
