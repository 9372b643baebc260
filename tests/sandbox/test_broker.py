"""The embedded broker, as plain Kafka clients see it."""

from __future__ import annotations

import multiprocessing

import pytest
from confluent_kafka.admin import AdminClient

from pushrail_stream.sandbox.broker import EmbeddedBroker, EmbeddedBrokerError
from tests.support.kafka.roundtrip import consume, produce
from tests.support.kafka.topics import unique_name


def test_records_are_read_as_they_were_produced(embedded_broker: EmbeddedBroker) -> None:
    topic = unique_name("in-and-out")
    embedded_broker.create_topic(topic, 2)
    produce(embedded_broker.bootstrap_servers, topic, [b"a", b"b"], partition=1)
    assert consume(embedded_broker.bootstrap_servers, topic, 2, partition=1) == [b"a", b"b"]


def test_topics_have_the_requested_partitions() -> None:
    with EmbeddedBroker.start({"events": 4, "dlq": 1}) as broker:
        found = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).topics
    assert {name: len(topic.partitions) for name, topic in found.items()} == {"events": 4, "dlq": 1}


def test_another_process_can_use_it(embedded_broker: EmbeddedBroker) -> None:
    topic = unique_name("other-process")
    embedded_broker.create_topic(topic, 1)
    child = multiprocessing.get_context("spawn").Process(
        target=produce, args=(embedded_broker.bootstrap_servers, topic, [b"from a child"])
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert consume(embedded_broker.bootstrap_servers, topic, 1) == [b"from a child"]


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_without_partitions_is_refused(embedded_broker: EmbeddedBroker, partitions: int) -> None:
    with pytest.raises(EmbeddedBrokerError, match="at least one partition"):
        embedded_broker.create_topic("none", partitions)


def test_a_topic_is_created_once(embedded_broker: EmbeddedBroker) -> None:
    topic = unique_name("twice")
    embedded_broker.create_topic(topic, 1)
    with pytest.raises(EmbeddedBrokerError, match="already exists"):
        embedded_broker.create_topic(topic, 1)


def test_a_bad_topic_leaves_no_broker_running() -> None:
    with pytest.raises(EmbeddedBrokerError):
        EmbeddedBroker.start({"good": 1, "bad": 0})


def test_a_closed_broker_refuses_calls_and_closes_twice() -> None:
    broker = EmbeddedBroker.start({})
    broker.close()
    broker.close()
    with pytest.raises(EmbeddedBrokerError, match="closed"):
        broker.create_topic("late", 1)


def test_a_forked_child_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedBroker.start({}) as broker:
        with monkeypatch.context() as child:
            child.setattr("os.getpid", lambda: -1)
            with pytest.raises(EmbeddedBrokerError, match="forked child"):
                broker.create_topic("topic", 1)
            broker.close()
        broker.create_topic("topic", 1)
