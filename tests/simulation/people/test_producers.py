from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.simulation.kafka.producer import SimProducer
from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.producers import make_up_events, produce_events
from tests.simulation.stage import opened


def test_a_fatal_error_in_a_transaction_ends_its_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an unclean election took a part of what it had written, so that its sequence has a gap."""
    fatal = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence desynchronization", fatal=True)

    def fail(_producer: SimProducer, _timeout: float) -> int:
        raise KafkaException(fatal)

    monkeypatch.setattr(SimProducer, "_flush", fail)
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        world.prepare()
        produce_events(world, count=70, secs=20.0, hot=None, odd=0.0, repeats=0.0, transactions=True)
        world.scheduler.run(world.scheduler.now + 60.0)
    assert [one.facts["producer"] for one in world.history.happenings if one.kind == "producer gave up"] == [
        "producer-0.0"
    ]


def test_kafka_has_the_records_of_aborted_transactions() -> None:
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        world.prepare()
        produce_events(world, count=70, secs=20.0, hot=None, odd=0.0, repeats=0.0, transactions=True)
        world.scheduler.run(world.scheduler.now + 60.0)
        topic = world.cluster.topic(world.settings.topics.events)
        assert topic is not None
        records = [record for log in topic.partitions for record in log.records if not record.is_marker]
    assert sum(record.is_aborted for record in records) % 7 == 0
    assert {record.is_aborted for record in records} == {True, False}


def test_a_producer_makes_up_for_events_that_kafka_refused() -> None:
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        world.prepare()
        produce_events(world, count=40, secs=10.0, hot=None, odd=0.0, repeats=0.0, transactions=False)
        world.scheduler.run(world.scheduler.now + 15.0)
        for broker in world.cluster.brokers:
            world.cluster.stop_broker(broker)
        make_up_events(world, least_events=100)
        world.scheduler.run(world.scheduler.now + 400.0)
        assert len(world.acknowledged) == 40
        for broker in world.cluster.brokers:
            world.cluster.start_broker(broker)
        world.scheduler.run(world.scheduler.now + 90.0)
        assert len(world.acknowledged) == 100
