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
    "retention.bytes": "-1",
    "retention.ms": str(7 * _DAY_MS),
    "segment.bytes": str(2**30),
    "segment.ms": str(7 * _DAY_MS),
    "unclean.leader.election.enable": "false",
}
"""Kafka's defaults, of its documentation ("Topic-Level Configs")."""


_OF_CLUSTER: Final[Mapping[str, str]] = {"min.insync.replicas": "1"}
"""Settings that a cluster has of its own: Kafka 4 keeps this one there."""
_WORDS: Final = frozenset({"cleanup.policy", "compression.type", "message.timestamp.type"})
"""Settings whose values are neither numbers nor truth values."""


def is_valid(name: str, value: str) -> bool:
    """Whether Kafka accepts a setting."""
    if name in _WORDS or value in {"true", "false"}:
        return True
    try:
        float(value)
    except ValueError:
        return False
    return name in DEFAULTS or name in _OF_CLUSTER


def configuration_of_broker(max_metadata_bytes: int) -> dict[str, ConfigEntry]:
    """The settings of a broker that the product asks for."""
    name = "offset.metadata.max.bytes"
    return {name: ConfigEntry(name, str(max_metadata_bytes), ConfigSource.STATIC_BROKER_CONFIG)}


def configuration_of(topic: Topic) -> dict[str, ConfigEntry]:
    """Every setting that is in force."""
    own = {name: ConfigEntry(name, value, ConfigSource.DYNAMIC_TOPIC_CONFIG) for name, value in topic.config.items()}
    others = {
        name: ConfigEntry(name, value, ConfigSource.DEFAULT_CONFIG, is_default=True)
        for name, value in DEFAULTS.items()
        if name not in own
    }
    cluster = {
        name: ConfigEntry(name, value, ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG)
        for name, value in _OF_CLUSTER.items()
    }
    return cluster | others | own
