"""Metrics of ingest: requests, and events by their outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, final

from pushrail_stream.core.signals import ApiKeysChanged, RequestAnswered, Signal
from pushrail_stream.ingest.errors import PROBLEMS
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.series import KAFKA_METRICS, Exposition, Histogram, Metric, MetricFamily
from pushrail_stream.ports.kafka import ClientStatistics

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STATUSES: Final = ("202", *map(str, PROBLEMS))


@final
class IngestMetrics:
    """Counts signals, and collects the series of `INGEST_METRICS` and `KAFKA_METRICS`."""

    def __init__(self) -> None:
        self.exposition = Exposition(self.collect)
        self.buffered_bytes: Callable[[], int] = lambda: 0
        self.waiting: Callable[[], int] = lambda: 0
        self.active_keys: Callable[[], int] = lambda: 0
        self.kafka: Callable[[], Mapping[str, ClientStatistics]] = dict
        self.requests = Counter(dict.fromkeys(_STATUSES, 0))
        self.events = Counter(dict.fromkeys(("accepted", "rejected", "failed"), 0))
        self.keys_bad = 0
        self.bytes = 0
        self.seconds = Histogram(_SECONDS)

    def __call__(self, signal: Signal) -> None:
        match signal:
            case RequestAnswered():
                self.requests[str(signal.status)] += 1
                self.events["accepted"] += signal.accepted
                self.events["rejected"] += signal.rejected
                self.events["failed"] += signal.failed
                self.bytes += signal.size
                self.seconds.observe(signal.secs)
            case ApiKeysChanged():
                self.keys_bad = int(bool(signal.problem))
            case _:
                pass

    def collect(self) -> Iterator[MetricFamily]:
        """Every series, as of now."""
        for metric in INGEST_METRICS:
            yield metric.collect(self)
        clients = self.kafka()
        for of_client in KAFKA_METRICS:
            yield of_client.collect(clients)


# fmt: off
INGEST_METRICS: Final[tuple[Metric[IngestMetrics], ...]] = (
    Metric("counter", "pushrail_ingest_requests", "Requests answered, by HTTP status.",
           lambda m: m.requests, ("status",)),
    Metric("histogram", "pushrail_ingest_request_seconds", "Time from a request's head to its answer.",
           lambda m: m.seconds),
    Metric("counter", "pushrail_ingest_events", "Events posted, by outcome.",
           lambda m: m.events, ("outcome",)),
    Metric("counter", "pushrail_ingest_body_bytes", "Bytes of the request bodies that were read.", lambda m: m.bytes),
    Metric("counter", "pushrail_ingest_log_lines_lost", "Log lines that could not be written.",
           lambda _: LogStream.lost_lines),
    Metric("gauge", "pushrail_ingest_buffered_bytes", "Memory taken by requests that are not answered yet.",
           lambda m: m.buffered_bytes()),
    Metric("gauge", "pushrail_ingest_unacknowledged", "Events that Kafka has not acknowledged yet.",
           lambda m: m.waiting()),
    Metric("gauge", "pushrail_ingest_api_keys", "API keys in use.", lambda m: m.active_keys()),
    Metric("gauge", "pushrail_ingest_keys_file_bad", "1 when the file of API keys cannot be read as it is, else 0.",
           lambda m: m.keys_bad),
)
# fmt: on
