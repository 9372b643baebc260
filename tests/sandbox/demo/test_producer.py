"""The demo's producer knows where Kafka put each record."""

from __future__ import annotations

import pytest

from pushrail_stream.errors import OperatorError
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.demo import producer
from pushrail_stream.sandbox.demo.customers import CUSTOMERS
from pushrail_stream.sandbox.demo.events import plan_events
from pushrail_stream.sandbox.demo.producer import VendorProducer
from tests.support.kafka.topics import unique_name


def test_each_record_has_its_place(embedded_broker: EmbeddedBroker) -> None:
    topic, planned = unique_name("demo"), plan_events(20, CUSTOMERS)
    embedded_broker.create_topic(topic, 3)
    sending = VendorProducer(embedded_broker.bootstrap_servers, topic)
    for one in planned:
        sending.send(one)
    sending.flush()
    assert sorted(id(produced.planned) for produced in sending.produced.values()) == sorted(map(id, planned))
    assert all(place.startswith(f"{topic}/") for place in sending.produced)
    customers: dict[bytes, set[str]] = {}
    for place, produced in sending.produced.items():
        customers.setdefault(produced.planned.kafka_key, set()).add(place.split("/")[1])
    assert all(len(partitions) == 1 for partitions in customers.values())


def test_a_record_that_kafka_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "_ANSWER_SECS", 0.2)
    sending = VendorProducer("127.0.0.1:1", "nowhere")
    sending.send(plan_events(1, CUSTOMERS)[0])
    with pytest.raises(OperatorError, match="Kafka did not take 1 records"):
        sending.flush()
