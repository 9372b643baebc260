"""Metrics: what happened, counted for Prometheus. The only importer of its client.

Counting is plain arithmetic on plain numbers, for it is done per event; series are made when somebody scrapes. A scrape
is served on the event loop, so it sees the ledger and every counter at one moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.core.signals import (
    Attempted,
    BusBack,
    BusGone,
    CommitFailed,
    CopyFailed,
    DeadLettered,
    Flooded,
    Held,
    KafkaTrouble,
    MovedToRetry,
    RegistryChanged,
    Resumed,
    Signal,
    Skipped,
    Slowed,
    Suspended,
)

_MAX_CODES: Final = 100
"""Error codes counted by name: AWS may call an error anything, and every name is a series."""
_FAILURES: Final = {CopyFailed: "copy", CommitFailed: "commit", KafkaTrouble: "kafka"}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
_ENTRIES: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 9.0, 10.0)


@final
class _Histogram:
    """Counts by upper bound: a tenth of the cost of the client's own, which locks and looks labels up."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, documentation: str) -> Metric:
        buckets, total = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


@final
class Metrics(Collector):
    """Sees every signal, and shows what it has counted when it is asked."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        """The worker's own, once it has started."""
        self.attempts_lost: Callable[[], int] = lambda: 0
        self.lanes: Callable[[], int] = lambda: 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._entries: Counter[tuple[str, str]] = Counter()
        self._codes: set[str] = set()
        self._dead: Counter[tuple[str]] = Counter()
        self._moved: Counter[tuple[str, str]] = Counter()
        self._skipped: Counter[tuple[str]] = Counter()
        self._failures: Counter[tuple[str]] = Counter()
        self._suspended: set[str] = set()
        self._slowed: set[str] = set()
        self._gone: set[str] = set()
        self._held = 0
        self._flooded = 0
        self._documents = (0, 0)
        self._calls = _Histogram(_SECONDS)
        self._batches = _Histogram(_ENTRIES)
        self._latency = _Histogram(_SECONDS)

    def __call__(self, signal: Signal) -> None:
        """See one signal."""
        match signal:
            case Attempted():
                self._attempted(signal)
            case Skipped():
                self._skipped[(signal.reason,)] += 1
            case DeadLettered(letter):
                self._dead[(letter.reason,)] += 1
            case MovedToRetry(copy):
                self._moved[(copy.tier.topic, copy.reason)] += 1
            case CopyFailed() | CommitFailed() | KafkaTrouble():
                self._failures[(_FAILURES[type(signal)],)] += 1
            case _:
                self._health(signal)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything as text, and its content type: Prometheus' own, or OpenMetrics where that is accepted."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number: the library compares it all the same
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every series, as of now."""
        yield from self._deliveries()
        yield from self._attempts()
        yield from self._state()

    def _attempted(self, signal: Attempted) -> None:
        self._calls.observe(signal.duration_secs)
        self._batches.observe(len(signal.entries))
        ended_ms, delivered = signal.at_ms + signal.duration_secs * 1000, 0
        for entry in signal.entries:
            outcome = entry.outcome
            if isinstance(outcome, Delivered):
                delivered += 1
                self._latency.observe((ended_ms - entry.recorded_at_ms) / 1000)
            else:
                self._count(type(outcome).__name__.lower(), outcome.code)
                if isinstance(outcome, Retryable) and outcome.ours:
                    self._failures[("own_credentials",)] += 1
        self._entries["delivered", ""] += delivered

    def _count(self, outcome: str, code: str) -> None:
        if code not in self._codes:
            if len(self._codes) >= _MAX_CODES:
                code = "other"
            self._codes.add(code)
        self._entries[outcome, code] += 1

    def _health(self, signal: Signal) -> None:
        match signal:
            case Suspended(destination):
                self._suspended.add(destination.id)
            case Resumed(destination):
                self._suspended.discard(destination.id)
            case Slowed(destination, in_flight, most):
                (self._slowed.add if in_flight < most else self._slowed.discard)(destination.id)
            case BusGone(destination):
                self._gone.add(destination.id)
            case BusBack(destination):
                self._gone.discard(destination.id)
            case _:
                self._worker(signal)

    def _worker(self, signal: Signal) -> None:
        match signal:
            case Held(on):
                self._held += 1 if on else -1
            case Flooded():
                self._flooded = 1
            case RegistryChanged():
                self._documents = (signal.good, signal.bad)
            case _:
                pass

    def _deliveries(self) -> Iterator[Metric]:
        ledger = self.ledger
        yield CounterMetricFamily(
            "pushrail_deliveries_begun", "Deliveries begun, one per event and destination.", ledger.begun
        )
        ended = CounterMetricFamily("pushrail_deliveries", "Deliveries that ended, by how.", labels=["state"])
        for state in ("delivered", "dead_lettered", "moved_to_retry", "skipped", "dropped"):
            ended.add_metric([state], getattr(ledger, state))
        yield ended
        yield GaugeMetricFamily(
            "pushrail_deliveries_in_flight", "Deliveries begun that have not ended.", ledger.in_flight
        )
        yield _counter("pushrail_dead_letters", "Dead letters Kafka acknowledged.", ("reason",), self._dead)
        yield _counter(
            "pushrail_moved_to_retry", "Deliveries moved to a retry topic.", ("topic", "reason"), self._moved
        )
        yield _counter("pushrail_skipped", "Deliveries settled unsent.", ("reason",), self._skipped)
        yield self._latency.family(
            "pushrail_delivery_latency_seconds",
            "From the Kafka timestamp of an event's record, or of its retry copy's, to EventBridge's confirmation.",
        )

    def _attempts(self) -> Iterator[Metric]:
        yield _counter("pushrail_entries", "Entries attempted, by outcome.", ("outcome", "code"), self._entries)
        yield self._calls.family("pushrail_put_events_seconds", "Duration of PutEvents calls, signing in included.")
        yield self._batches.family("pushrail_batch_entries", "Entries of a PutEvents call.")
        yield CounterMetricFamily(
            "pushrail_attempts_log_lost", "Attempt records that could not be written.", self.attempts_lost()
        )

    def _state(self) -> Iterator[Metric]:
        yield _counter("pushrail_failures", "What failed and is tried again, by what it was.", ("of",), self._failures)
        for name, documentation, value in (
            ("pushrail_lanes", "Destinations with deliveries, or with a state worth remembering.", self.lanes()),
            ("pushrail_destinations_suspended", "Destinations that only probes are sent to.", len(self._suspended)),
            ("pushrail_destinations_slowed", "Destinations that asked for less speed.", len(self._slowed)),
            ("pushrail_buses_gone", "Destinations whose bus does not exist.", len(self._gone)),
            ("pushrail_held_back", "Whether consuming waits for room (0 to 2: events, retries).", self._held),
            ("pushrail_flooded", "Whether a flood of dead letters has stopped consuming.", self._flooded),
        ):
            yield GaugeMetricFamily(name, documentation, value)
        documents = GaugeMetricFamily(
            "pushrail_registry_documents", "Destinations in use, and documents that are not.", labels=["state"]
        )
        for state, count in zip(("good", "bad"), self._documents, strict=True):
            documents.add_metric([state], count)
        yield documents


def _counter(
    name: str, documentation: str, labels: Sequence[str], counts: Counter[tuple[str]] | Counter[tuple[str, str]]
) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
