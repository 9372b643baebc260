"""Standing: what is counted nowhere and looked at when somebody asks: partitions, retry topics, clients of Kafka."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pushrail_stream.pipeline.stats import WorkerStats
from pushrail_stream.ports.kafka import ClientStatistics


def held_records(worker: WorkerStats) -> Iterator[Metric]:
    """What has been begun and not settled."""
    events = GaugeMetricFamily(
        "pushrail_buffered_events",
        "Records not settled, or read before they are due, by where they came from.",
        labels=["of"],
    )
    size = GaugeMetricFamily("pushrail_buffered_bytes", "Their bytes.", labels=["of"])
    for name, views in worker.partitions().items():
        events.add_metric([name], sum(view.open_records for view in views))
        size.add_metric([name], sum(view.open_bytes for view in views))
    yield events
    yield size


def partitions(worker: WorkerStats, tiers: Mapping[str, float]) -> Iterator[Metric]:
    """How each partition stands, and what waits on the retry topics (``tiers``: topic and delay in seconds)."""
    labels = ["topic", "partition"]
    lag = GaugeMetricFamily(
        "pushrail_consumer_lag_records",
        "Records above the committed offset; not shown while unknown.",
        labels=labels,
    )
    oldest = GaugeMetricFamily(
        "pushrail_oldest_undelivered_age_seconds",
        "Since the Kafka timestamp of the first record that is not settled; not shown while unknown.",
        labels=labels,
    )
    committed = GaugeMetricFamily(
        "pushrail_committed_offset_age_seconds",
        "Since the committed offset last moved while there is something to wait for; else 0.",
        labels=labels,
    )
    unread = GaugeMetricFamily(
        "pushrail_partition_unread_seconds",
        "How long nothing was read from a partition although its end is ahead; else 0.",
        labels=labels,
    )
    for partition, secs in worker.unread_secs().items():
        unread.add_metric([partition.topic, str(partition.number)], secs)
    depth = GaugeMetricFamily(
        "pushrail_retry_depth_records",
        "Deliveries that wait on a retry topic, of this worker's share.",
        labels=["topic"],
    )
    delay = GaugeMetricFamily("pushrail_retry_delay_seconds", "How long each waits there.", labels=["topic"])
    depths = dict.fromkeys(tiers, 0)
    now_ms = worker.now_ms()
    for view in (view for views in worker.partitions().values() for view in views):
        topic, number = view.partition.topic, str(view.partition.number)
        records = worker.lag(view.partition, view.committed)
        if records is not None:
            lag.add_metric([topic, number], records)
            if topic in depths:
                depths[topic] += records
        if view.oldest_at_ms is not None:
            oldest.add_metric([topic, number], max(0, now_ms - view.oldest_at_ms) / 1000)
        elif records == 0:  # else something may wait in Kafka that was not read: how old it is nobody knows
            oldest.add_metric([topic, number], 0)
        committed.add_metric([topic, number], view.uncommitted_secs)
    for topic, delay_secs in tiers.items():
        depth.add_metric([topic], depths[topic])
        delay.add_metric([topic], delay_secs)
    yield from (lag, oldest, committed, unread, depth, delay)


def consumers(worker: WorkerStats) -> Iterator[Metric]:
    """Whether each consumer's thread is at work."""
    turned = GaugeMetricFamily(
        "pushrail_consumer_poll_age_seconds",
        "Since a consumer's thread last turned.",
        labels=["client"],
    )
    for name, secs in worker.poll_ages().items():
        turned.add_metric([name], secs)
    yield turned


def kafka_clients(clients: Mapping[str, ClientStatistics]) -> Iterator[Metric]:
    """What librdkafka says of each client of Kafka, by its name."""
    up = GaugeMetricFamily("pushrail_kafka_brokers_up", "Brokers a client is connected to.", labels=["client"])
    rtt = GaugeMetricFamily("pushrail_kafka_rtt_seconds", "Mean round trip to the slowest broker.", labels=["client"])
    queued = GaugeMetricFamily(
        "pushrail_kafka_queued_records",
        "Fetched and not handed over, or written and not acknowledged.",
        labels=["client"],
    )
    errors = CounterMetricFamily(
        "pushrail_kafka_request_errors", "Requests that failed or were not answered in time.", labels=["client"]
    )
    rebalances = CounterMetricFamily(
        "pushrail_kafka_rebalances", "Rebalances of a consumer's group.", labels=["client"]
    )
    for name, statistics in clients.items():
        up.add_metric([name], statistics.brokers_up)
        rtt.add_metric([name], statistics.rtt_secs)
        queued.add_metric([name], statistics.queued)
        errors.add_metric([name], statistics.errors)
        rebalances.add_metric([name], statistics.rebalances)
    yield from (up, rtt, queued, errors, rebalances)
