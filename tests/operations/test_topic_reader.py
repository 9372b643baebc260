"""A topic is read to its present end, and the progress moves with every record."""

from __future__ import annotations

import sys
from itertools import count

import pytest
from confluent_kafka import Producer

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.operations.topic_reader import read_scan
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.fixtures import NewTopic
from tests.support.signals import Terminal


def test_it_advances_with_every_record(
    kafka_bootstrap: str, new_topic: NewTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may take long over a record: with --rate 10 a batch takes a quarter of an hour."""
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "log_level": 0})
    topic = new_topic()
    for _ in range(4):
        producer.produce(topic, b"x")
    assert producer.flush(30) == 0
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    seen = []
    with (
        Scan(KafkaSettings(bootstrap_servers=kafka_bootstrap), topic) as scan,
        ProgressBar(clock=count(0.0, 10.0).__next__) as bar,
    ):
        for _ in read_scan(scan, "events", bar):
            seen.append(terminal.getvalue().rpartition("\r")[2].split(",")[0].strip())
            bar.extra = f"{len(seen)} sent"
    assert seen == ["events: 0 of 4", "events: 1 of 4", "events: 2 of 4", "events: 3 of 4"]
    assert "; 3 sent" in terminal.getvalue()
