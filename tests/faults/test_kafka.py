"""Traps about what Kafka is told and what it refuses: commits, dead letters, the attempts log, records nobody can read."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaError

from pushrail_stream.core.signals import CopyFailed
from pushrail_stream.sandbox.broker import ApiKey, EmbeddedBroker
from pushrail_stream.sandbox.bus import FaultBus, Hang, Match, Rule
from pushrail_stream.settings import Settings
from tests.e2e.test_command import FAILED, worker, write_world
from tests.e2e.world import (
    PARTITIONS,
    bus_arn,
    committed,
    destination,
    ends,
    event,
    make_topics,
    open_bus,
    produce,
    read_all,
    running,
    settings_for,
)
from tests.faults.world import letters, outside

pytestmark = pytest.mark.kafka
QUICK_TO_MISS = {"session.timeout.ms": 6000}
"""The shortest a broker allows: a worker that was killed is missed after so long."""


def killable(bootstrap: str, bus: FaultBus, **delivery: float) -> Settings:
    """Settings of workers in processes of their own."""
    plain = settings_for(bootstrap, bus.url, delivery=delivery)
    kafka = plain.kafka.model_dump() | {"client": QUICK_TO_MISS}
    return settings_for(bootstrap, bus.url, kafka=kafka, delivery=delivery, eventbridge={
        "endpoint_url": bus.url, "read_timeout_secs": 60,
    })  # fmt: skip


async def until_committed(settings: Settings, wanted: Sequence[int]) -> dict[int, int]:
    """Until the group has committed at least these offsets of the events topic, by partition."""
    async with asyncio.timeout(60):
        while any((now := await asyncio.to_thread(committed, settings))[n] < least for n, least in enumerate(wanted)):
            pass
    return now
