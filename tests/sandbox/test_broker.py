"""The embedded broker, as plain Kafka clients see it."""

from __future__ import annotations

import multiprocessing
import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from pushrail_stream.sandbox.broker import ApiKey, EmbeddedBroker, EmbeddedBrokerError
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


def test_a_pushed_error_reaches_the_producer_once() -> None:
    with EmbeddedBroker.start({"events": 1}) as broker:
        broker.push_request_errors(ApiKey.PRODUCE, KafkaError.POLICY_VIOLATION)
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        outcomes: list[int | None] = []
        for _ in range(2):
            producer.produce(
                "events", b"x", on_delivery=lambda error, _: outcomes.append(error.code() if error else None)
            )
            assert producer.flush(20) == 0
    assert outcomes == [KafkaError.POLICY_VIOLATION, None]


def test_cleared_errors_do_not_occur() -> None:
    with EmbeddedBroker.start({"events": 1}) as broker:
        broker.push_request_errors(ApiKey.PRODUCE, *[KafkaError.POLICY_VIOLATION] * 3)
        broker.clear_request_errors(ApiKey.PRODUCE)
        produce(broker.bootstrap_servers, "events", [b"x"])


def test_a_broker_keeps_its_records_while_it_is_down() -> None:
    with EmbeddedBroker.start({"events": 1}) as broker:
        produce(broker.bootstrap_servers, "events", [b"kept"])
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        broker.set_broker_down(1)
        with pytest.raises(KafkaException):
            admin.list_topics(timeout=0.5)
        broker.set_broker_up(1)
        assert consume(broker.bootstrap_servers, "events", 1) == [b"kept"]


def test_a_round_trip_takes_as_long_as_set() -> None:
    with EmbeddedBroker.start({"events": 1}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.list_topics(timeout=10)
        broker.set_rtt(1, 300)
        before = time.monotonic()
        admin.list_topics(timeout=10)
        assert time.monotonic() - before >= 0.3


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


def test_an_unknown_broker_is_refused(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(EmbeddedBrokerError, match="round trip"):
        embedded_broker.set_rtt(99, 1)


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
