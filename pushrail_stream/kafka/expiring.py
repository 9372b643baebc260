"""Records that Kafka will soon remove, because a topic's retention ends for them."""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import bounds_of, has_controller, offsets_for_time, partitions_of
from pushrail_stream.kafka.errors import as_operator_error
from pushrail_stream.settings.model import KafkaSettings

_TIMEOUT_SECS: Final = 15.0


def expiring_records(kafka: KafkaSettings, topic: str, now_ms: int, lead_ms: int) -> int:
    """The number of records whose retention ends within ``lead_ms``; 0 when it never ends, or Kafka does not tell it.

    Kafka removes whole segments, so records may stay longer. Reading is not needed for it. Raises `OperatorError`.
    """
    with as_operator_error(f"{topic}: retention is not known"):
        admin = AdminClient(client_properties.admin(kafka))
        if not has_controller(admin.list_topics(topic, timeout=_TIMEOUT_SECS)):
            return 0  # the embedded Kafka removes nothing
        wanted = ConfigResource(ResourceType.TOPIC, topic)
        [described] = admin.describe_configs([wanted], request_timeout=_TIMEOUT_SECS).values()
        told = described.result().get("retention.ms")  # a service that only speaks Kafka's protocol may not have it
        retention_ms = -1 if told is None or told.value is None else int(told.value)
        if retention_ms < 0:
            return 0
        with Consumer(client_properties.reader(kafka, kafka.group_id, {})) as consumer:
            bounds = {number: bounds_of(consumer, topic, number) for number in partitions_of(consumer, topic)}
            kept = offsets_for_time(consumer, topic, now_ms + lead_ms - retention_ms, bounds)
    return 0 if kept is None else sum(kept[number] - first for number, (first, _) in bounds.items())
