from __future__ import annotations

import random

from confluent_kafka import KafkaError

from tests.simulation.kafka.broker import EARLIEST, LATEST, Batch, Broker, FetchPlace
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.network import Later
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.scheduler import Scheduler

RECORD = NewRecord(b"k", b"v")
PLACE = ("events", 0)


def cluster(world: Scheduler) -> Cluster:
    return Cluster(world, random.Random(1))


def leader(kafka: Cluster, topic: str = "events") -> Broker:
    found = kafka.topic(topic)
    assert found is not None
    number = found.partitions[0].leader
    assert number is not None
    return kafka.brokers[number]


def test_a_record_is_written_and_read_at_the_leader_only() -> None:
    kafka = cluster(Scheduler())
    kafka.create_topic("events")
    at = leader(kafka)
    assert at.produce(*PLACE, Batch([RECORD])).base == 0
    found = at.fetch({PLACE: FetchPlace(0)}, committed_only=True, max_wait=0)
    assert isinstance(found, dict)
    assert [record.value for record in found[PLACE].records] == [b"v"]
    other = kafka.brokers[at.id % 3 + 1]
    assert other.produce(*PLACE, Batch([RECORD])).error == KafkaError.NOT_LEADER_FOR_PARTITION
    assert at.produce("events", 1, Batch([RECORD])).error == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_fetch_waits_for_records_or_for_its_time() -> None:
    world = Scheduler()
    kafka = cluster(world)
    kafka.create_topic("events")
    at = leader(kafka)
    answers: list[tuple[float, int]] = []
    for _ in range(2):
        later = at.fetch({PLACE: FetchPlace(len(answers))}, committed_only=True, max_wait=5.0)
        assert isinstance(later, Later)
        later.when_given(lambda found: answers.append((world.now, found[PLACE].next_offset)))
        world.run(world.now + 1.0)
        if len(answers) == 0:
            at.produce(*PLACE, Batch([RECORD]))
        world.run(world.now + 9.0)
    assert answers == [(1_001.0, 1), (1_015.0, 1)]


def test_a_broker_that_dies_is_replaced_after_a_moment() -> None:
    world = Scheduler()
    kafka = cluster(world)
    kafka.create_topic("events")
    old = leader(kafka)
    kafka.stop_broker(old.id)
    assert leader(kafka) is old
    world.run(world.now + 2.0)
    new = leader(kafka)
    assert new is not old
    assert new.produce(*PLACE, Batch([RECORD])).base == 0
    assert new.view["events"].leaders == [(new.id, 1)]


def test_a_partition_without_live_replicas_has_no_leader_until_one_comes_back() -> None:
    world = Scheduler()
    kafka = cluster(world)
    log = kafka.create_topic("events").partitions[0]
    for number in log.replicas:
        kafka.stop_broker(number)
    world.run(world.now + 2.0)
    assert log.leader is None
    kafka.start_broker(2)
    assert log.leader == 2


def test_a_topic_that_is_created_again_has_another_id_and_begins_at_zero() -> None:
    kafka = cluster(Scheduler())
    old = kafka.create_topic("events")
    leader(kafka).produce(*PLACE, Batch([RECORD]))
    kafka.delete_topic("events")
    new = kafka.create_topic("events")
    assert old.id != new.id
    assert len(new.id) == 22
    assert leader(kafka).list_offset(*PLACE, LATEST, committed_only=True) == (0, 0)


def test_a_broker_that_lags_behind_knows_the_old_topic() -> None:
    world = Scheduler()
    kafka = cluster(world)
    old = kafka.create_topic("events")
    kafka.lag_of = lambda broker: 3.0 if broker == 2 else 0.0
    kafka.delete_topic("events")
    new = kafka.create_topic("events")
    assert (kafka.brokers[1].view["events"].topic, kafka.brokers[2].view["events"].topic) == (new, old)
    assert kafka.heard_at == world.now + 3.0
    world.run(world.now + 3.0)
    assert kafka.brokers[2].view["events"].topic is new
    world.run(world.now + 1.0)
    assert kafka.heard_at == world.now


def test_rights_are_withdrawn_from_one_topic() -> None:
    kafka = cluster(Scheduler())
    kafka.create_topic("events")
    kafka.create_topic("other")
    kafka.acl.deny("topic", "events", "Read")
    kafka.acl.deny("topic", "other", "Describe")
    found = leader(kafka).fetch({PLACE: FetchPlace(0)}, committed_only=True, max_wait=1.0)
    assert isinstance(found, dict)
    assert found[PLACE].error == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert list(kafka.brokers[1].metadata(None).topics) == ["events"]
    assert kafka.brokers[1].metadata(["other"]).topics["other"] == KafkaError.TOPIC_AUTHORIZATION_FAILED
    kafka.acl.allow("topic", "events", "Read")
    assert isinstance(leader(kafka).fetch({PLACE: FetchPlace(0)}, committed_only=True, max_wait=1.0), Later)


def test_a_batch_above_the_topics_limit_is_refused() -> None:
    kafka = cluster(Scheduler())
    kafka.create_topic("events", config={"max.message.bytes": "1000"})
    large = NewRecord(b"k", b"x" * 1_000)
    assert leader(kafka).produce(*PLACE, Batch([large])).error == KafkaError.MSG_SIZE_TOO_LARGE
    kafka.set_config("events", max_message_bytes="2000")
    assert leader(kafka).produce(*PLACE, Batch([large])).error is None


def test_too_few_replicas_in_sync_refuse_a_batch() -> None:
    world = Scheduler()
    kafka = cluster(world)
    kafka.create_topic("events", config={"min.insync.replicas": "3"})
    kafka.stop_broker(3)
    world.run(world.now + 2.0)
    assert leader(kafka).produce(*PLACE, Batch([RECORD])).error == KafkaError.NOT_ENOUGH_REPLICAS


def test_partitions_are_added() -> None:
    kafka = cluster(Scheduler())
    kafka.create_topic("events")
    kafka.add_partitions("events", 3)
    assert [log.leader for log in kafka.topics["events"].partitions] == [1, 2, 3]
    assert kafka.brokers[2].list_offset("events", 1, EARLIEST, committed_only=True) == (0, 0)


def test_a_coordinator_moves_and_loads_for_a_moment() -> None:
    world = Scheduler()
    kafka = cluster(world)
    kafka.load_secs = 2.0
    first = kafka.coordinator_broker("group")
    assert first is not None
    assert not kafka.is_loading("group")
    kafka.stop_broker(first)
    world.run(world.now + 1.5)
    assert kafka.coordinator_broker("group") not in {None, first}
    assert kafka.is_loading("group")
    world.run(world.now + 2.0)
    assert not kafka.is_loading("group")
