"""The settings of a topic with Kafka's defaults, as DescribeConfigs tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka.admin import ConfigEntry, ConfigSource

from tests.simulation.kafka.broker import DEFAULT_MAX_BYTES, Topic

_DAY_MS: Final = 86_400_000
DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "delete.retention.ms": str(_DAY_MS),
    "max.message.bytes": str(DEFAULT_MAX_BYTES),
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": str(7 * _DAY_MS),
    "segment.bytes": str(2**30),
    "segment.ms": str(7 * _DAY_MS),
    "unclean.leader.election.enable": "false",
}
"""Kafka's defaults, of its documentation ("Topic-Level Configs")."""


def configuration_of(topic: Topic) -> dict[str, ConfigEntry]:
    """Every setting that is in force."""
    own = {name: ConfigEntry(name, value, ConfigSource.DYNAMIC_TOPIC_CONFIG) for name, value in topic.config.items()}
    others = {
        name: ConfigEntry(name, value, ConfigSource.DEFAULT_CONFIG, is_default=True)
        for name, value in DEFAULTS.items()
        if name not in own
    }
    return own | others
