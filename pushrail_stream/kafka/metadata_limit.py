"""The brokers' limit of a commit's metadata, which decides whether destinations that are behind can have cursors."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import has_controller
from pushrail_stream.settings.model import KafkaSettings

LIMIT_NAME: Final = "offset.metadata.max.bytes"
_TIMEOUT_SECS: Final = 5.0
"""Longest wait for each answer, in seconds. A worker starts without it."""


def metadata_limit(kafka: KafkaSettings) -> int | None:
    """The smallest limit of all brokers, in bytes; None when they do not tell, as without DescribeConfigs."""
    admin = AdminClient(client_properties.admin(kafka))
    try:
        cluster = admin.list_topics(timeout=_TIMEOUT_SECS)
        if not has_controller(cluster):
            return None
        brokers = [ConfigResource(ResourceType.BROKER, str(number)) for number in cluster.brokers]
        answers = admin.describe_configs(brokers, request_timeout=_TIMEOUT_SECS).values()
        entries = [answer.result().get(LIMIT_NAME) for answer in answers]
    except KafkaException:
        return None
    return min((int(entry.value) for entry in entries if entry is not None), default=None)
