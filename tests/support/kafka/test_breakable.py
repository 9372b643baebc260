"""The faults of the embedded broker, as plain Kafka clients see them."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from pushrail_stream.sandbox.broker import EmbeddedBrokerError
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.kafka.roundtrip import consume, produce


def test_a_pushed_error_reaches_the_producer_once() -> None:
    with BreakableBroker.start({"events": 1}) as broker:
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
    with BreakableBroker.start({"events": 1}) as broker:
        broker.push_request_errors(ApiKey.PRODUCE, *[KafkaError.POLICY_VIOLATION] * 3)
        broker.clear_request_errors(ApiKey.PRODUCE)
        produce(broker.bootstrap_servers, "events", [b"x"])


def test_a_broker_keeps_its_records_while_it_is_down() -> None:
    with BreakableBroker.start({"events": 1}) as broker:
        produce(broker.bootstrap_servers, "events", [b"kept"])
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        broker.set_broker_down(1)
        with pytest.raises(KafkaException):
            admin.list_topics(timeout=0.5)
        broker.set_broker_up(1)
        assert consume(broker.bootstrap_servers, "events", 1) == [b"kept"]


def test_a_round_trip_takes_as_long_as_set() -> None:
    with BreakableBroker.start({"events": 1}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.list_topics(timeout=10)
        broker.set_rtt(1, 300)
        before = time.monotonic()
        admin.list_topics(timeout=10)
        assert time.monotonic() - before >= 0.3


def test_an_unknown_broker_is_refused() -> None:
    with BreakableBroker.start({}) as broker, pytest.raises(EmbeddedBrokerError, match="round trip"):
        broker.set_rtt(99, 1)
