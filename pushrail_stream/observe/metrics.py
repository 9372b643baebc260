"""Metrics of a worker: signals are counted, and the worker's state is read when Prometheus asks.

Counting is plain arithmetic on plain numbers, because it is done per event; series are made at a scrape. A scrape runs
on the event loop, so it sees the ledger and every counter at one moment. Only this room imports Prometheus' client.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, final, get_args

from pushrail_stream.core import signals
from pushrail_stream.core.batch import Flush
from pushrail_stream.core.delivery import Trigger
from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.core.retry import DeadReason, RetryReason
from pushrail_stream.core.signals import Signal
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.series import KAFKA_METRICS, Exposition, Histogram, Labels, Metric, MetricFamily
from pushrail_stream.pipeline.stats import DispatcherStats, PartitionStats, StatsSource, WorkerStats

_MAX_CODES: Final = 100
"""Error codes with a series of their own. AWS may use any text as a code, so further ones are counted as ``other``."""
_OWN_CREDENTIALS: Final = "own_credentials"
_FAILURES: Final[Mapping[type, str]] = {
    signals.CopyFailed: "copy",
    signals.CommitFailed: "commit",
    signals.KafkaTrouble: "kafka",
    signals.RecordsTrimmed: "trimmed",
    signals.PartitionRestarted: "restarted",
    signals.CursorTrimmed: "backlog_trimmed",
    signals.CursorEndangered: "backlog_endangered",
    signals.OwnCredentialsFailed: _OWN_CREDENTIALS,
}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
_AGES: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0)
_BYTES: Final = (1_000.0, 5_000.0, 10_000.0, 50_000.0, 100_000.0, 250_000.0, 500_000.0, 1_000_000.0)
_ENTRIES: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 9.0, 10.0)
_OTHERS: Final = "_other"
"""The destinations without a series of their own. No destination's id begins with an underscore."""


@final
class Metrics:
    """Counts signals, and collects the series of `WORKER_METRICS` and `KAFKA_METRICS`."""

    def __init__(
        self,
        stats: StatsSource,
        tiers: Mapping[str, float] = MappingProxyType({}),
        max_destinations: int = 0,
        find_destination: Callable[[str], object] = lambda _id: True,
    ) -> None:
        """``tiers``: retry topics with their delays in seconds. ``max_destinations`` have series of their own.

        ``find_destination``: gives None for an id that has no document.
        """
        self._stats = stats
        self._find_destination = find_destination
        self.tiers = tiers
        self.exposition = Exposition(self.collect)
        # Known label values begin at 0: Prometheus sees no increase in the first value of a series.
        self.entries: Counter[tuple[str, str]] = Counter({("delivered", ""): 0})
        self.dead_letters: Counter[str] = _zeros(get_args(DeadReason))
        self.moved = Counter({(topic, reason): 0 for topic in tiers for reason in get_args(RetryReason)})
        self.skipped: Counter[str] = _zeros(get_args(signals.SkipReason))
        self.flushes: Counter[str] = _zeros(get_args(Flush))
        self.failures: Counter[str] = _zeros(_FAILURES.values())
        self.destinations: Counter[tuple[str, str]] = Counter()
        self.own_fault_secs = 0.0
        self.cursors_opened = 0
        self.cursors_closed: Counter[str] = _zeros(get_args(signals.CursorEnd))
        self.held = 0
        self.flooded = 0
        self.documents = {"good": 0, "bad": 0}
        self.calls = Histogram(_SECONDS)
        self.batch_entries = Histogram(_ENTRIES)
        self.batch_bytes = Histogram(_BYTES)
        self.age = Histogram(_AGES)
        self.latency: defaultdict[Trigger, Histogram] = defaultdict(lambda: Histogram(_SECONDS))
        self.latency["live"], self.latency["retry"] = Histogram(_SECONDS), Histogram(_SECONDS)
        self._codes: set[str] = set()
        self._max_destinations = max_destinations
        self._known_destinations = set[str]()

    def __call__(self, signal: Signal) -> None:
        match signal:
            case signals.Attempted():
                self._attempted(signal)
            case signals.Skipped():
                self.skipped[signal.reason] += 1
            case signals.DeadLettered(letter):
                self.dead_letters[letter.reason] += 1
            case signals.MovedToRetry(copy, topic):
                self.moved[topic, copy.reason] += 1
            case _ if (kind := _FAILURES.get(type(signal))) is not None:
                self.failures[kind] += 1
            case _:
                self._state_changed(signal)

    def _state_changed(self, signal: Signal) -> None:
        match signal:
            case signals.Backpressure(on):
                self.held += 1 if on else -1
            case signals.Flooded():
                self.flooded = 1
            case signals.CursorOpened():
                self.cursors_opened += 1
            case signals.CursorClosed():
                self.cursors_closed[signal.why] += 1
            case signals.RegistryChanged():
                self.documents = {"good": signal.good, "bad": signal.bad}
                self._forget_destinations(signal.removed)
            case _:
                pass

    def collect(self) -> Iterator[MetricFamily]:
        """Every series, as of now."""
        stats = self._stats()
        scrape = _Scrape(self, stats, stats.dispatcher, stats.partitions)
        for metric in WORKER_METRICS:
            yield metric.collect(scrape)
        for of_client in KAFKA_METRICS:
            yield of_client.collect(stats.kafka)

    def _attempted(self, signal: signals.Attempted) -> None:
        deliveries, outcomes, age, latency = signal.deliveries, signal.outcomes, self.age, self.latency
        ended_ms, delivered, size = signal.at_ms + signal.duration_secs * 1000, 0, 0
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            size += delivery.size
            if isinstance(outcome, Delivered):
                delivered += 1
                age.observe_since(delivery.event.occurred_at_ms, ended_ms)
                if delivery.record.timestamp_ms > 0:
                    latency[delivery.trigger].observe_since(delivery.record.timestamp_ms, ended_ms)
            else:
                self._count_failure(type(outcome).__name__.lower(), outcome.code)
                if isinstance(outcome, Retryable) and outcome.ours:
                    self.failures[_OWN_CREDENTIALS] += 1
                    self.own_fault_secs = ended_ms / 1000
        self.calls.observe(signal.duration_secs)
        self.batch_entries.observe(len(outcomes))
        self.batch_bytes.observe(size)
        self.flushes[signal.flush] += 1
        self.entries["delivered", ""] += delivered
        if self._max_destinations:
            self._count_destination(signal.destination.id, delivered, len(outcomes) - delivered)

    def _count_failure(self, outcome: str, code: str) -> None:
        if code not in self._codes:
            if len(self._codes) >= _MAX_CODES:
                code = "other"
            self._codes.add(code)
        self.entries[outcome, code] += 1

    def _count_destination(self, destination_id: str, delivered: int, failed: int) -> None:
        destination_id = self.label_of(destination_id)
        self.destinations[destination_id, "delivered"] += delivered
        self.destinations[destination_id, "failed"] += failed

    def label_of(self, destination_id: str) -> str:
        """The destination's value of the label ``destination``. The first destinations that are met have their own."""
        if destination_id not in self._known_destinations:
            is_full = len(self._known_destinations) >= self._max_destinations
            # A call may end after its destination was deleted, and its series with it.
            if is_full or self._find_destination(destination_id) is None:
                return _OTHERS
            self._known_destinations.add(destination_id)
        return destination_id

    def _forget_destinations(self, removed: Iterable[str]) -> None:
        """End the series of these destinations, which makes room for others."""
        for destination_id in removed:
            self._known_destinations.discard(destination_id)
            for outcome in ("delivered", "failed"):
                self.destinations.pop((destination_id, outcome), None)


def _zeros(names: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(names, 0))


class _Scrape(NamedTuple):
    """The source of every series of one scrape."""

    counts: Metrics
    worker: WorkerStats
    dispatcher: DispatcherStats
    partitions: Mapping[str, Sequence[PartitionStats]]


def _ended(scrape: _Scrape) -> dict[str, float]:
    states = ("delivered", "dead_lettered", "moved_to_retry", "skipped", "put_back", "dropped")
    return {state: getattr(scrape.worker.ledger, state) for state in states}


def _refreshes(scrape: _Scrape) -> dict[str, float]:
    sign_ins = scrape.worker.sign_ins
    return {"refreshed": sign_ins.refreshed, "failed": sign_ins.failed, "kept": sign_ins.kept}


def _sts_calls(scrape: _Scrape) -> dict[str, float]:
    sign_ins = scrape.worker.sign_ins
    return {"succeeded": sign_ins.sts_calls - sign_ins.sts_failures, "failed": sign_ins.sts_failures}


def _buffered(scrape: _Scrape, value: Callable[[PartitionStats], int]) -> dict[str, float]:
    return {name: sum(map(value, partitions)) for name, partitions in scrape.partitions.items()}


def _by_partition(scrape: _Scrape, value: Callable[[PartitionStats], float | None]) -> dict[Labels, float]:
    """The value of each partition; a partition whose value is not known has no series."""
    return {
        (partition.partition.topic, str(partition.partition.number)): found
        for partitions in scrape.partitions.values()
        for partition in partitions
        if (found := value(partition)) is not None
    }


def _oldest(scrape: _Scrape) -> dict[Labels, float]:
    now_ms = scrape.worker.now_ms

    def age_secs(partition: PartitionStats) -> float | None:
        if partition.oldest_at_ms is not None:
            return max(0, now_ms - partition.oldest_at_ms) / 1000
        # The age is unknown while the lag is not 0: records that were not read may wait in Kafka.
        return 0 if partition.lag == 0 else None

    return _by_partition(scrape, age_secs)


def _unread(scrape: _Scrape) -> dict[Labels, float]:
    return {(of.topic, str(of.number)): secs for of, secs in scrape.worker.unread_secs.items()}


def _backlog_events(scrape: _Scrape) -> dict[str, float]:
    events = {_OTHERS: 0.0}
    for backlog in scrape.worker.backlogs:
        label = scrape.counts.label_of(backlog.destination_id)
        events[label] = events.get(label, 0.0) + backlog.events
    return events


def _backlog_ages(scrape: _Scrape) -> dict[str, float]:
    ages = {_OTHERS: 0.0}
    for backlog in scrape.worker.backlogs:
        label = scrape.counts.label_of(backlog.destination_id)
        ages[label] = max(ages.get(label, 0.0), (scrape.worker.now_ms - backlog.oldest_at_ms) / 1000)
    return ages


def _retry_depth(scrape: _Scrape) -> dict[str, float]:
    depths: dict[str, float] = dict.fromkeys(scrape.counts.tiers, 0)
    for partition in (partition for partitions in scrape.partitions.values() for partition in partitions):
        if partition.partition.topic in depths:
            depths[partition.partition.topic] += partition.lag or 0
    return depths


_OF_PARTITION: Final = ("topic", "partition")
# fmt: off
WORKER_METRICS: Final[tuple[Metric[_Scrape], ...]] = (
    Metric("counter", "pushrail_deliveries_begun", "Deliveries begun, one per event and destination.",
           lambda s: s.worker.ledger.begun),
    Metric("counter", "pushrail_deliveries", "Deliveries that ended, by their end.",
           _ended, ("state",)),
    Metric("gauge", "pushrail_deliveries_in_flight", "Deliveries begun that have not ended.",
           lambda s: s.worker.ledger.in_flight),
    Metric("counter", "pushrail_dead_letters", "Dead letters that Kafka has acknowledged, by reason.",
           lambda s: s.counts.dead_letters, ("reason",)),
    Metric("counter", "pushrail_moved_to_retry", "Deliveries moved to a retry topic, by topic and reason.",
           lambda s: s.counts.moved, ("topic", "reason")),
    Metric("counter", "pushrail_skipped", "Deliveries settled without a call, by reason.",
           lambda s: s.counts.skipped, ("reason",)),
    Metric("histogram", "pushrail_delivery_latency_seconds",
           "Time from the Kafka timestamp of an event's record, or of its retry copy, to EventBridge's confirmation.",
           lambda s: s.counts.latency, ("trigger",)),
    Metric("histogram", "pushrail_event_latency_seconds",
           "Time from an event's occurredAt to EventBridge's confirmation.",
           lambda s: s.counts.age),
    Metric("counter", "pushrail_entries", "Entries attempted, by outcome and error code.",
           lambda s: s.counts.entries, ("outcome", "code")),
    Metric("histogram", "pushrail_put_events_seconds",
           "Duration of a call to a bus, including the sign-in where one is needed.",
           lambda s: s.counts.calls),
    Metric("histogram", "pushrail_batch_entries", "Number of entries in a call to a bus.",
           lambda s: s.counts.batch_entries),
    Metric("histogram", "pushrail_batch_bytes", "Size of the entries in a call to a bus.",
           lambda s: s.counts.batch_bytes),
    Metric("counter", "pushrail_flushes", "Calls to buses, by the reason why their batch was closed.",
           lambda s: s.counts.flushes, ("reason",)),
    Metric("counter", "pushrail_destination_entries",
           "Entries attempted, by destination; metrics.max_destinations limits the number of destinations.",
           lambda s: s.counts.destinations, ("destination", "outcome")),
    Metric("counter", "pushrail_attempts_log_lost", "Attempt records that could not be written.",
           lambda s: s.worker.attempts_lost),
    Metric("gauge", "pushrail_attempts_log_backlog_records", "Attempt records that Kafka has not acknowledged yet.",
           lambda s: s.worker.attempts_backlog),
    Metric("counter", "pushrail_log_lines_lost", "Log lines that could not be written.",
           lambda _: LogStream.lost_lines),
    Metric("counter", "pushrail_credential_refreshes",
           "Sessions requested, by outcome; kept means that the old session stays in use.",
           _refreshes, ("outcome",)),
    Metric("counter", "pushrail_sts_calls", "AssumeRole calls, by outcome.",
           _sts_calls, ("outcome",)),
    Metric("gauge", "pushrail_backlog_events",
           "Upper bound of a destination's undelivered events: it counts other destinations' events between them.",
           _backlog_events, ("destination",)),
    Metric("gauge", "pushrail_backlog_oldest_age_seconds",
           "Time since the Kafka timestamp of the oldest event in a destination's backlog.",
           _backlog_ages, ("destination",)),
    Metric("gauge", "pushrail_destinations_behind", "Destinations that have fallen behind.",
           lambda s: len(s.worker.backlogs)),
    Metric("gauge", "pushrail_cursors_open", "Open cursors: one for each destination and partition that is behind.",
           lambda s: sum(backlog.cursors for backlog in s.worker.backlogs)),
    Metric("counter", "pushrail_cursors_opened",
           "Cursors opened, each when a destination fell behind on a partition.",
           lambda s: s.counts.cursors_opened),
    Metric("counter", "pushrail_cursors_closed", "Cursors that ended, by the reason.",
           lambda s: s.counts.cursors_closed, ("reason",)),
    Metric("counter", "pushrail_failures", "Failures, by kind.", lambda s: s.counts.failures, ("of",)),
    Metric("gauge", "pushrail_own_fault_last_timestamp_seconds",
           "Time of the last attempt that failed through the operator's own fault, in Unix seconds; 0 when none has.",
           lambda s: s.counts.own_fault_secs),
    Metric("gauge", "pushrail_lanes", "Destinations with deliveries, or with a state worth remembering.",
           lambda s: s.dispatcher.active),
    Metric("gauge", "pushrail_put_events_in_flight", "Calls to buses in flight.",
           lambda s: s.dispatcher.calls),
    Metric("gauge", "pushrail_lanes_waiting_deliveries", "Deliveries that wait in lanes.",
           lambda s: s.dispatcher.waiting),
    Metric("gauge", "pushrail_destinations_suspended", "Suspended destinations, which get only probes.",
           lambda s: s.dispatcher.suspended),
    Metric("gauge", "pushrail_destinations_slowed", "Destinations with fewer calls than usual: they throttle or fail.",
           lambda s: s.dispatcher.slowed),
    Metric("gauge", "pushrail_buses_missing", "Destinations whose bus does not exist.",
           lambda s: s.dispatcher.gone),
    Metric("gauge", "pushrail_held_back", "Consumers that wait for room in the buffer: 0 to 2, for events and retries.",
           lambda s: s.counts.held),
    Metric("gauge", "pushrail_flooded", "1 when a flood of dead letters has stopped consuming, else 0.",
           lambda s: s.counts.flooded),
    Metric("counter", "pushrail_catch_up_records", "Records read again for destinations that are behind.",
           lambda s: s.worker.catch_up.records),
    Metric("counter", "pushrail_catch_up_deliveries", "Deliveries that records read again have begun.",
           lambda s: s.worker.catch_up.deliveries),
    Metric("gauge", "pushrail_registry_documents", "Destination documents: good ones are in use, bad ones are refused.",
           lambda s: s.counts.documents, ("state",)),
    Metric("gauge", "pushrail_buffered_events", "Records that are not settled or not yet due, by consumer.",
           lambda s: _buffered(s, lambda partition: partition.open_records), ("of",)),
    Metric("gauge", "pushrail_buffered_bytes", "Size of the records that are not settled or not yet due, by consumer.",
           lambda s: _buffered(s, lambda partition: partition.open_bytes), ("of",)),
    Metric("gauge", "pushrail_consumer_lag_records", "Records above the committed offset; absent while unknown.",
           lambda s: _by_partition(s, lambda partition: partition.lag), _OF_PARTITION),
    Metric("gauge", "pushrail_oldest_undelivered_age_seconds",
           "Time since the Kafka timestamp of the first record that is not settled; absent while unknown.",
           _oldest, _OF_PARTITION),
    Metric("gauge", "pushrail_committed_offset_age_seconds",
           "Time since the committed offset last moved, while there is something to commit; else 0.",
           lambda s: _by_partition(s, lambda partition: partition.uncommitted_secs), _OF_PARTITION),
    Metric("gauge", "pushrail_partition_unread_seconds",
           "Time since a record was last read from a partition, while its end is ahead; else 0.",
           _unread, _OF_PARTITION),
    Metric("gauge", "pushrail_retry_depth_records",
           "Deliveries that wait on a retry topic, in this worker's partitions.",
           _retry_depth, ("topic",)),
    Metric("gauge", "pushrail_retry_delay_seconds", "Time that each delivery waits on a retry topic.",
           lambda s: s.counts.tiers, ("topic",)),
    Metric("gauge", "pushrail_consumer_poll_age_seconds", "Time since a consumer's thread last polled.",
           lambda s: s.worker.poll_ages, ("client",)),
)
# fmt: on
