"""Consumer groups seen from outside: a move is planned, bounded by the log, and made."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Producer, TopicPartition

from pushrail_stream.core.commit import Committable
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import admin, groups
from pushrail_stream.kafka.groups import Shift, committed_by, members_of, move_group, plan_shift
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.fixtures import NewTopic
from tests.support.kafka.topics import create_topic, unique_name


@pytest.mark.parametrize(
    ("shift", "again"),
    [
        (Shift(0, 10, 4, 0, 20), 6),
        (Shift(0, 10, 15, 0, 20), -5),
        (Shift(0, None, 15, 0, 20), -15),
        (Shift(0, 3, 8, 8, 20), 0),
        (Shift(0, None, 8, 8, 20), 0),
    ],
    ids=["back", "ahead", "no commit", "deleted records", "no commit and deleted records"],
)
def test_a_shift_counts_its_records(shift: Shift, again: int) -> None:
    assert shift.again == again


def write(bootstrap: str, topic: str, times_ms: list[int]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for at in times_ms:
        producer.produce(topic, b"x", partition=0, timestamp=at)
    assert producer.flush(30) == 0


@pytest.mark.kafka
def test_a_group_moves_to_an_offset_or_a_time(real_kafka: str) -> None:
    topic, group, kafka = unique_name("moved"), unique_name("group"), KafkaSettings(bootstrap_servers=real_kafka)
    create_topic(real_kafka, topic, partitions=2)
    write(real_kafka, topic, [1_000_000_000_000 + 1_000 * n for n in range(8)])
    assert committed_by(kafka, group, topic)[0] == Committable(0, ""), "the group's coordinator has settled"
    for target, new in ((5, 5), (99, 8), ("earliest", 0), ("latest", 8), ("time:1000000003000", 3)):
        [shift] = plan_shift(kafka, group, topic, target, 0)
        assert (shift.partition, shift.new, shift.first, shift.end) == (0, new, 0, 8)
    assert [shift.partition for shift in plan_shift(kafka, group, topic, "latest")] == [0, 1]
    assert plan_shift(kafka, group, topic, "latest", 7) == []
    move_group(kafka, group, topic, plan_shift(kafka, group, topic, 5))
    assert committed_by(kafka, group, topic)[0] == Committable(5, "")
    assert members_of(kafka, group) == []


def test_a_time_is_refused_where_kafka_looks_up_no_times(embedded_broker: EmbeddedBroker) -> None:
    topic, bootstrap = unique_name("moved"), embedded_broker.bootstrap_servers
    embedded_broker.create_topic(topic, 1)
    write(bootstrap, topic, [1_000_000_000_000] * 3)
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    with pytest.raises(OperatorError, match=f"finds no record of {topic} by its time: name an offset"):
        plan_shift(kafka, "group", topic, "time:1000")
    assert plan_shift(kafka, "group", topic, "earliest") == [Shift(0, None, 0, 0, 3)]


def test_members_are_unknown_where_kafka_describes_no_groups(embedded_broker: EmbeddedBroker) -> None:
    kafka = KafkaSettings(bootstrap_servers=embedded_broker.bootstrap_servers)
    with pytest.raises(OperatorError, match=r"does not describe group any: .*not supported by broker"):
        members_of(kafka, "any")


@pytest.mark.kafka
def test_a_group_with_a_member_is_not_moved(real_kafka: str) -> None:
    topic, group, kafka = unique_name("held"), unique_name("group"), KafkaSettings(bootstrap_servers=real_kafka)
    create_topic(real_kafka, topic, partitions=1)
    write(real_kafka, topic, [1_000_000_000_000] * 4)
    with Consumer({"bootstrap.servers": real_kafka, "group.id": group, "client.id": "held", "log_level": 0,
                   "auto.offset.reset": "earliest"}) as member:  # fmt: skip
        member.subscribe([topic])
        assert member.poll(60) is not None
        member.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
        [name] = members_of(kafka, group)
        assert name.startswith("held at ")
        with pytest.raises(OperatorError, match=group):
            move_group(kafka, group, topic, plan_shift(kafka, group, topic, "latest"))
        assert committed_by(kafka, group, topic)[0].offset == 2


def test_an_unmoved_partition_keeps_its_map() -> None:
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    move_group(nowhere, "group", "topic", [Shift(0, 5, 5, 0, 9)])  # it asks no broker


def test_a_move_is_planned_while_leaders_are_elected(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[int] = set()

    def ask(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
        if partition not in asked:
            asked.add(partition)
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)

    topic = unique_name("moved")
    embedded_broker.create_topic(topic, 2)
    monkeypatch.setattr(admin, "bounds_of", ask)
    shifts = plan_shift(KafkaSettings(bootstrap_servers=embedded_broker.bootstrap_servers), "group", topic, "latest")
    assert [(shift.partition, shift.end) for shift in shifts] == [(0, 0), (1, 0)]
    assert asked == {0, 1}


class SettlingAdmin:
    """Kafka's admin client of a cluster that has had no group yet: the coordinator answers at the third request."""

    def __init__(self) -> None:
        self.requests = 0

    def describe_consumer_groups(self, groups: list[str], **_: float) -> dict[str, Future[SimpleNamespace]]:
        self.requests += 1
        described = Future[SimpleNamespace]()
        if self.requests < 3:
            described.set_exception(KafkaException(KafkaError(KafkaError.NOT_COORDINATOR)))
        else:
            described.set_result(SimpleNamespace(state=ConsumerGroupState.DEAD))
        return {groups[0]: described}


def test_the_first_group_of_a_cluster_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SettlingAdmin()
    monkeypatch.setattr(groups, "AdminClient", lambda _: client)
    assert members_of(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "group") == []
    assert client.requests == 3


@pytest.mark.kafka
def test_a_group_without_commits_begins_at_0(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    kafka = KafkaSettings(bootstrap_servers=kafka_bootstrap)
    assert committed_by(kafka, unique_name("group"), new_topic()) == {0: Committable(0, "")}
