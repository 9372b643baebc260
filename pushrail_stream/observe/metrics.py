"""Metrics of a worker: signals are counted, and the worker's state is read when Prometheus asks.

Series are made at a scrape. It runs on the event loop, so it sees the ledger and every counter at one moment. Only this
room imports Prometheus' client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, final

from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.series import KAFKA_METRICS, Exposition, Labels, Metric, MetricFamily
from pushrail_stream.observe.signal_counts import OTHERS, SignalCounts
from pushrail_stream.pipeline.stats import DispatcherStats, PartitionStats, StatsSource, WorkerStats


@final
class Metrics(SignalCounts):
    """Counts signals, and collects the series of `WORKER_METRICS` and `KAFKA_METRICS`."""

    def __init__(
        self,
        stats: StatsSource,
        tiers: Mapping[str, float] = MappingProxyType({}),
        max_destinations: int = 0,
        find_destination: Callable[[str], object] = lambda _id: True,
    ) -> None:
        super().__init__(tiers, max_destinations, find_destination)
        self._stats = stats
        self.exposition = Exposition(self.collect)

    def collect(self) -> Iterator[MetricFamily]:
        """Every series, as of now."""
        stats = self._stats()
        scrape = _Scrape(self, stats, stats.dispatcher, stats.partitions)
        for metric in WORKER_METRICS:
            yield metric.collect(scrape)
        for of_client in KAFKA_METRICS:
            yield of_client.collect(stats.kafka)


class _Scrape(NamedTuple):
    """The source of every series of one scrape."""

    counts: SignalCounts
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


def _units(scrape: _Scrape) -> int:
    return scrape.counts.entries["delivered", ""] + scrape.counts.further_units


def _destination_units(scrape: _Scrape) -> dict[str, float]:
    counts = scrape.counts
    delivered = ((name, count) for (name, outcome), count in counts.destinations.items() if outcome == "delivered")
    return {name: count + counts.destination_further_units[name] for name, count in delivered}


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
    events = {OTHERS: 0.0}
    for backlog in scrape.worker.backlogs:
        label = scrape.counts.label_of(backlog.destination_id)
        events[label] = events.get(label, 0.0) + backlog.events
    return events


def _backlog_ages(scrape: _Scrape) -> dict[str, float]:
    ages = {OTHERS: 0.0}
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
    Metric("counter", "pushrail_late_deliveries",
           "First-time deliveries that took longer than 30 s or moved to a retry topic, by the cause of the delay.",
           lambda s: s.counts.late, ("cause",)),
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
    Metric("counter", "pushrail_repeated_entries",
           "Delivered entries that the bus had from an earlier call and keeps once (DEDUPLICATED, eventbridgev2).",
           lambda s: s.counts.repeats),
    Metric("counter", "pushrail_delivered_units",
           "Delivered entries in units of 64 KB, as EventBridge bills them.", _units),
    Metric("counter", "pushrail_destination_delivered_units",
           "The same by destination; metrics.max_destinations limits the number of destinations.",
           _destination_units, ("destination",)),
    Metric("counter", "pushrail_attempts_log_lost", "Attempt records that could not be written.",
           lambda s: s.worker.attempts_lost),
    Metric("gauge", "pushrail_attempts_log_backlog_records", "Attempt records that Kafka has not acknowledged yet.",
           lambda s: s.worker.attempts_backlog),
    Metric("counter", "pushrail_notices_lost", "Notices that could not be written.",
           lambda s: s.worker.notices_lost),
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
