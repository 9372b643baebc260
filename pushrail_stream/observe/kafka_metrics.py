"""Metrics of Kafka clients, as librdkafka reports them. Workers and ingest have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pushrail_stream.observe.series import Metric
from pushrail_stream.ports.kafka import ClientStatistics

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
