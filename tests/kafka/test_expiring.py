"""Records near the end of their topic's retention, on real brokers and on an embedded one."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, NewTopic

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.expiring import expiring_records
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.topics import unique_name, wait_until_there
from tests.support.ports import free_port

pytestmark = pytest.mark.kafka
DAY_MS = 86_400_000


def topic_with(bootstrap: str, retention_ms: int, *ages_days: float) -> str:
    """A topic of two partitions, with a record of each of these ages."""
    name = unique_name("letters")
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    # The broker refuses no old record, and removes none before the test has ended.
    config = {"retention.ms": str(retention_ms), "segment.ms": str(30 * DAY_MS)}
    [made] = admin.create_topics([NewTopic(name, 2, 1, config=config)]).values()
    made.result(30)
    wait_until_there(admin, name)
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    now_ms = round(time.time() * 1000)  # noqa: TID251 - a test's producer
    for number, days in enumerate(sorted(ages_days, reverse=True)):
        producer.produce(name, b"{}", partition=number % 2, timestamp=now_ms - round(days * DAY_MS))
    assert producer.flush(60) == 0
    return name


def expiring(bootstrap: str, topic: str) -> int:
    now_ms = round(time.time() * 1000)  # noqa: TID251 - as above
    return expiring_records(KafkaSettings(bootstrap_servers=bootstrap), topic, now_ms, DAY_MS)


def test_records_of_the_last_day_of_their_time_are_counted(real_kafka: str) -> None:
    topic = topic_with(real_kafka, 14 * DAY_MS, 13.9, 13.5, 13.2, 12.5, 3, 0)
    assert expiring(real_kafka, topic) == 3
    assert expiring(real_kafka, topic_with(real_kafka, 14 * DAY_MS, 12, 1)) == 0
    assert expiring(real_kafka, topic_with(real_kafka, 14 * DAY_MS)) == 0


def test_a_topic_that_keeps_records_without_end_has_none(real_kafka: str) -> None:
    assert expiring(real_kafka, topic_with(real_kafka, -1, 5_000, 1)) == 0


def test_a_broker_that_leaves_the_retention_out_has_none(real_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, answered = topic_with(real_kafka, 14 * DAY_MS, 13.9), Future[dict[str, ConfigEntry]]()
    answered.set_result({})
    monkeypatch.setattr(AdminClient, "describe_configs", lambda *_, **__: {ConfigResource("topic", topic): answered})
    assert expiring(real_kafka, topic) == 0


def test_a_broker_that_does_not_tell_is_an_error_and_an_embedded_one_is_none(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(OperatorError, match="letters: retention is not known"):
        expiring(f"127.0.0.1:{free_port()}", "letters")
    embedded_broker.create_topic("letters", 1)
    assert expiring(embedded_broker.bootstrap_servers, "letters") == 0
