"""The copies on retry topics that no worker has settled are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.kafka.client_properties import retries_consumer
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.operations.replay_selection import copy_of
from pushrail_stream.operations.waiting_copies import read_waiting
from tests.support.attempt_log import log_of
from tests.support.dead_letters import AT, event_record

pytestmark = pytest.mark.kafka


def test_copies_above_the_commit_wait(real_kafka: str, tmp_path: Path) -> None:
    settings, _ = log_of(real_kafka, tmp_path)
    [topic, *_] = settings.topics.retry
    producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
    for offset in range(3):
        key, value, headers = copy_of(event_record(0, offset), "dst_0", "rp-1", 1, AT)
        producer.produce(topic, value, key, 0, headers=list(headers))
    assert producer.flush(30) == 0
    group = retries_consumer(reached_kafka(settings)).group_id
    consumer = Consumer({"bootstrap.servers": real_kafka, "group.id": group, "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    consumer.close()
    found = list(read_waiting(settings, ProgressBar(quiet=True)))
    assert [(one.record.offset, one.origin.offset, one.destination) for one in found] == [
        (1, 1, "dst_0"), (2, 2, "dst_0"),
    ]  # fmt: skip
