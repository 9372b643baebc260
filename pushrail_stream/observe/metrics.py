"""Metrics: what happened, counted for Prometheus. Its client is imported in this room alone.

Counting is plain arithmetic on plain numbers, for it is done per event; series are made when somebody scrapes. A scrape
is served on the event loop, so it sees the ledger and every counter at one moment.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pushrail_stream.core.batch import Flush
from pushrail_stream.core.delivery import Trigger
from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.core.retry import DeadReason, RetryReason
from pushrail_stream.core.signals import (
    Attempted,
    Backpressure,
    CommitFailed,
    CopyFailed,
    DeadLettered,
    Flooded,
    KafkaTrouble,
    MovedToRetry,
    PartitionRestarted,
    RecordsTrimmed,
    RegistryChanged,
    Signal,
    Skipped,
    SkipReason,
)
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.series import Exposition, Histogram, counter, histogram
from pushrail_stream.observe.standing import consumers, held_records, kafka_clients, partitions
from pushrail_stream.pipeline.stats import WorkerStats

_MAX_CODES: Final = 100
"""Error codes counted by name: AWS may call an error anything, and every name is a series."""
_FAILURES: Final = {
    CopyFailed: "copy",
    CommitFailed: "commit",
    KafkaTrouble: "kafka",
    RecordsTrimmed: "trimmed",
    PartitionRestarted: "started_anew",
}
_OWN_CREDENTIALS: Final = "own_credentials"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
_AGES: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0)
_BYTES: Final = (1_000.0, 5_000.0, 10_000.0, 50_000.0, 100_000.0, 250_000.0, 500_000.0, 1_000_000.0)
_OTHERS: Final = "_other"
"""No destination can be called so."""
_ENTRIES: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 9.0, 10.0)


@final
class Metrics(Collector):
    """Sees every signal, and shows what it has counted when it is asked."""

    def __init__(
        self, state: WorkerStats, tiers: Mapping[str, float] = MappingProxyType({}), max_destinations: int = 0
    ) -> None:
        """``tiers``: the retry topics and their delays in seconds. So many destinations have series of their own."""
        self._worker = state
        self.exposition = Exposition(self)
        # What is known beforehand begins at 0: Prometheus sees no increase in the first value of a series.
        self._entries: Counter[tuple[str, str]] = Counter({("delivered", ""): 0})
        self._codes: set[str] = set()
        self._dead = _zeros(get_args(DeadReason))
        self._tiers = tiers
        self._max_destinations = max_destinations
        self._known_destinations = set[str]()
        self._destinations: Counter[tuple[str, str]] = Counter()
        self._flushes = _zeros(get_args(Flush))
        self._moved = Counter({(topic, reason): 0 for topic in tiers for reason in get_args(RetryReason)})
        self._skipped = _zeros(get_args(SkipReason))
        self._failures = _zeros([*_FAILURES.values(), _OWN_CREDENTIALS])
        self._own_fault_secs = 0.0
        self._held = 0
        self._flooded = 0
        self._documents = (0, 0)
        self._calls = Histogram(_SECONDS)
        self._batches = Histogram(_ENTRIES)
        self._batch_bytes = Histogram(_BYTES)
        self._age = Histogram(_AGES)
        self._latency: defaultdict[Trigger, Histogram] = defaultdict(lambda: Histogram(_SECONDS))
        self._latency["live"], self._latency["retry"] = Histogram(_SECONDS), Histogram(_SECONDS)

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
            case CopyFailed() | CommitFailed() | KafkaTrouble() | RecordsTrimmed() | PartitionRestarted():
                self._failures[(_FAILURES[type(signal)],)] += 1
            case _:
                self._state_changed(signal)

    @property
    def dead_letters(self) -> Mapping[str, int]:
        """Dead letters since the start, by reason."""
        return {reason: count for (reason,), count in self._dead.items()}

    def collect(self) -> Iterator[Metric]:
        """Every series, as of now."""
        yield from self._deliveries()
        yield from self._attempts()
        yield from self._conditions()
        yield from held_records(self._worker)
        yield from partitions(self._worker, self._tiers)
        yield from consumers(self._worker)
        yield from kafka_clients(self._worker.kafka())

    def _attempted(self, signal: Attempted) -> None:
        self._calls.observe(signal.duration_secs)
        self._batches.observe(len(signal.entries))
        self._flushes[(signal.flush,)] += 1
        ended_ms, delivered, size = signal.at_ms + signal.duration_secs * 1000, 0, 0
        for entry in signal.entries:
            outcome = entry.outcome
            size += entry.size
            if isinstance(outcome, Delivered):
                delivered += 1
                # The producer's clock may be ahead of ours, but no histogram's sum may fall.
                if entry.recorded_at_ms is not None:
                    self._latency[entry.trigger].observe(max(0.0, (ended_ms - entry.recorded_at_ms) / 1000))
                self._age.observe(max(0.0, (ended_ms - entry.event.occurred_at_ms) / 1000))
            else:
                self._count(type(outcome).__name__.lower(), outcome.code)
                if isinstance(outcome, Retryable) and outcome.ours:
                    self._failures[(_OWN_CREDENTIALS,)] += 1
                    self._own_fault_secs = ended_ms / 1000
        self._batch_bytes.observe(size)
        self._entries["delivered", ""] += delivered
        if self._max_destinations:
            self._count_destination(signal.destination.id, delivered, len(signal.entries) - delivered)

    def _count_destination(self, destination_id: str, delivered: int, failed: int) -> None:
        if destination_id not in self._known_destinations:
            is_full = len(self._known_destinations) >= self._max_destinations
            # A call may end after its destination was deleted, and its series with it.
            if is_full or not self._worker.has_destination(destination_id):
                destination_id = _OTHERS
            else:
                self._known_destinations.add(destination_id)
        self._destinations[destination_id, "delivered"] += delivered
        self._destinations[destination_id, "failed"] += failed

    def _forget_destinations(self, removed: Iterable[str]) -> None:
        """Their series end, and make room for others'."""
        for destination_id in removed:
            self._known_destinations.discard(destination_id)
            for outcome in ("delivered", "failed"):
                self._destinations.pop((destination_id, outcome), None)

    def _count(self, outcome: str, code: str) -> None:
        if code not in self._codes:
            if len(self._codes) >= _MAX_CODES:
                code = "other"
            self._codes.add(code)
        self._entries[outcome, code] += 1

    def _state_changed(self, signal: Signal) -> None:
        match signal:
            case Backpressure(on):
                self._held += 1 if on else -1
            case Flooded():
                self._flooded = 1
            case RegistryChanged():
                self._documents = (signal.good, signal.bad)
                self._forget_destinations(signal.removed)
            case _:
                pass

    def _deliveries(self) -> Iterator[Metric]:
        ledger = self._worker.ledger
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
        yield counter("pushrail_dead_letters", "Dead letters Kafka acknowledged.", ("reason",), self._dead)
        yield counter("pushrail_moved_to_retry", "Deliveries moved to a retry topic.", ("topic", "reason"), self._moved)
        yield counter("pushrail_skipped", "Deliveries settled unsent.", ("reason",), self._skipped)
        yield histogram(
            "pushrail_delivery_latency_seconds",
            "From the Kafka timestamp of an event's record, or of its retry copy's, to EventBridge's confirmation.",
            ("trigger",),
            {(trigger,): latency for trigger, latency in self._latency.items()},
        )
        yield histogram(
            "pushrail_event_latency_seconds",
            "From an event's occurredAt to EventBridge's confirmation.",
            (),
            {(): self._age},
        )

    def _attempts(self) -> Iterator[Metric]:
        yield counter("pushrail_entries", "Entries attempted, by outcome.", ("outcome", "code"), self._entries)
        yield histogram(
            "pushrail_put_events_seconds", "Duration of PutEvents calls, signing in included.", (), {(): self._calls}
        )
        yield histogram("pushrail_batch_entries", "Entries of a PutEvents call.", (), {(): self._batches})
        yield histogram("pushrail_batch_bytes", "Bytes of the entries of a call.", (), {(): self._batch_bytes})
        yield counter("pushrail_flushes", "Calls, by why their batch left.", ("reason",), self._flushes)
        yield counter(
            "pushrail_destination_entries",
            "Entries attempted, by destination (metrics.max_destinations).",
            ("destination", "outcome"),
            self._destinations,
        )
        yield CounterMetricFamily(
            "pushrail_attempts_log_lost", "Attempt records that could not be written.", self._worker.attempts_lost()
        )
        yield CounterMetricFamily(
            "pushrail_log_lines_lost", "Log lines that could not be written.", LogStream.lost_lines
        )
        yield GaugeMetricFamily(
            "pushrail_attempts_log_backlog_records",
            "Attempt records that Kafka has not acknowledged yet.",
            self._worker.attempts_backlog(),
        )
        signed_in = self._worker.sign_ins()
        yield counter(
            "pushrail_credential_refreshes",
            "Sessions wanted, by what came of it.",
            ("outcome",),
            {("refreshed",): signed_in.refreshed, ("failed",): signed_in.failed, ("kept",): signed_in.kept},
        )
        succeeded = signed_in.sts_calls - signed_in.sts_failures
        yield counter(
            "pushrail_sts_calls",
            "Calls of AssumeRole.",
            ("outcome",),
            {("succeeded",): succeeded, ("failed",): signed_in.sts_failures},
        )

    def _conditions(self) -> Iterator[Metric]:
        yield counter("pushrail_failures", "Failures by kind.", ("of",), self._failures)
        dispatcher_stats = self._worker.dispatcher_stats()
        for name, documentation, value in (
            (
                "pushrail_own_fault_last_timestamp_seconds",
                "When an attempt last failed through our own fault; 0 for never.",
                self._own_fault_secs,
            ),
            (
                "pushrail_lanes",
                "Destinations with deliveries, or with a state worth remembering.",
                dispatcher_stats.active,
            ),
            ("pushrail_put_events_in_flight", "PutEvents calls in flight.", dispatcher_stats.calls),
            ("pushrail_lanes_waiting_deliveries", "Deliveries that wait in lanes.", dispatcher_stats.waiting),
            (
                "pushrail_destinations_suspended",
                "Destinations that only probes are sent to.",
                dispatcher_stats.suspended,
            ),
            (
                "pushrail_destinations_slowed",
                "Destinations that get fewer calls, because they throttle or fail.",
                dispatcher_stats.slowed,
            ),
            ("pushrail_buses_missing", "Destinations whose bus does not exist.", dispatcher_stats.gone),
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


def _zeros(names: Iterable[str]) -> Counter[tuple[str]]:
    return Counter({(name,): 0 for name in names})
