from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AclOperation, ConfigResource, NewTopic, OffsetSpec, ResourceType

from tests.simulation.kafka.admin_client import SimAdminClient
from tests.simulation.kafka.broker import Batch
from tests.simulation.kafka.client import bound_to
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.groups import Coordinators
from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.scheduler import Scheduler
from tests.simulation.substitution import simulated

EVENTS = TopicPartition("events", 0)
COMMITTED = IsolationLevel.READ_COMMITTED


def nowhere(_host: object, _factory: object, name: str, port: int) -> Any:
    raise ConnectionRefusedError(f"{name}:{port}")


class Stage:
    """A cluster with one topic, and an admin client on a host."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.cluster = Cluster(self.scheduler, random.Random(1))
        self.cluster.coordinators = Coordinators(self.cluster)
        self.cluster.create_topic("events", config={"retention.ms": "1000"})

    def run(self, work: Callable[[SimAdminClient], None]) -> None:
        done: list[bool] = []

        def main() -> None:
            work(bound_to(SimAdminClient, self.cluster, self.scheduler)({}))
            done.append(True)

        with simulated(self.scheduler, 1, kafka=None, connect=nowhere):
            self.scheduler.host("operator").start(main)
            self.scheduler.run(self.scheduler.now + 1_000)
        assert done


def code_of(future: Any) -> int:
    with pytest.raises(KafkaException) as refused:
        future.result()
    code: int = refused.value.args[0].code()
    return code


def test_a_cluster_is_listed() -> None:
    stage = Stage()

    def work(admin: SimAdminClient) -> None:
        found: Any = admin.list_topics(timeout=5)
        assert (found.cluster_id, found.controller_id) == (stage.cluster.cluster_id, 1)
        assert list(found.brokers) == [1, 2, 3]
        [partition] = found.topics["events"].partitions.values()
        assert (partition.leader, partition.replicas, partition.isrs) == (1, [1, 2, 3], [1, 2, 3])
        missing = admin.list_topics("nothing", timeout=5).topics["nothing"].error
        assert missing is not None
        assert missing.code() == KafkaError.UNKNOWN_TOPIC_OR_PART

    stage.run(work)


def test_a_broker_that_is_down_is_passed_over() -> None:
    stage = Stage()
    stage.cluster.stop_broker(1)

    def work(admin: SimAdminClient) -> None:
        assert list(admin.list_topics(timeout=5).topics) == ["events"]

    stage.run(work)


def test_a_cluster_out_of_reach_is_told_after_the_time() -> None:
    stage = Stage()
    for number in stage.cluster.brokers:
        stage.cluster.stop_broker(number)
    errors: list[int] = []

    def work(admin: SimAdminClient) -> None:
        admin._properties["error_cb"] = lambda error: errors.append(error.code())
        with pytest.raises(KafkaException) as refused:
            admin.list_topics(timeout=5)
        assert refused.value.args[0].code() == KafkaError._TRANSPORT
        assert round(stage.scheduler.now - 1_000) == 5
        admin.poll(0)
        described = admin.describe_topics(TopicCollection(["events"]), request_timeout=3)
        assert code_of(described["events"]) == KafkaError._TIMED_OUT
        assert round(stage.scheduler.now - 1_000) == 8

    stage.run(work)
    assert errors.count(KafkaError._ALL_BROKERS_DOWN) == 1


def test_a_lost_answer_is_a_time_out() -> None:
    stage = Stage()
    stage.cluster.network.faults = lambda _api, _host, _broker: Fate(is_answer_lost=True)

    def work(admin: SimAdminClient) -> None:
        with pytest.raises(KafkaException) as refused:
            admin.list_topics(timeout=5)
        assert refused.value.args[0].code() == KafkaError._TIMED_OUT
        assert (
            code_of(admin.describe_topics(TopicCollection(["events"]), request_timeout=3)["events"])
            == KafkaError._TIMED_OUT
        )

    stage.run(work)


def test_topics_are_described_with_their_ids_and_our_rights() -> None:
    stage = Stage()
    stage.cluster.acl.deny("topic", "events", "Write")

    def work(admin: SimAdminClient) -> None:
        described = admin.describe_topics(
            TopicCollection(["events", "nothing"]), include_authorized_operations=True, request_timeout=3
        )
        found = described["events"].result(2.0)
        assert str(found.topic_id).translate(str.maketrans("+/", "-_")) == stage.cluster.topics["events"].id
        assert found.authorized_operations is not None
        assert AclOperation.READ in found.authorized_operations
        assert AclOperation.WRITE not in found.authorized_operations
        assert code_of(described["nothing"]) == KafkaError.UNKNOWN_TOPIC_OR_PART

    stage.run(work)


def test_a_configuration_has_kafkas_defaults() -> None:
    stage = Stage()

    def work(admin: SimAdminClient) -> None:
        resource = ConfigResource(ResourceType.TOPIC, "events")
        found = admin.describe_configs([resource], request_timeout=3)[resource].result()
        assert (found["retention.ms"].value, found["retention.ms"].is_default) == ("1000", False)
        assert (found["max.message.bytes"].value, found["max.message.bytes"].is_default) == ("1048588", True)

    stage.run(work)


def test_a_broker_tells_the_longest_metadata_of_a_commit() -> None:
    stage = Stage()
    stage.cluster.coordinators.max_metadata_bytes = 300

    def work(admin: SimAdminClient) -> None:
        resource = ConfigResource(ResourceType.BROKER, "1")
        found = admin.describe_configs([resource], request_timeout=3)[resource].result()
        assert found["offset.metadata.max.bytes"].value == "300"

    stage.run(work)


def test_topics_are_created_once_and_not_on_trial() -> None:
    stage = Stage()

    def work(admin: SimAdminClient) -> None:
        new = NewTopic("new", 3, 2, config={"cleanup.policy": "compact"})
        admin.create_topics([new], validate_only=True, request_timeout=3)["new"].result()
        assert stage.cluster.topic("new") is None
        made = admin.create_topics([new, NewTopic("events", 1, 1)], request_timeout=3)
        made["new"].result()
        assert code_of(made["events"]) == KafkaError.TOPIC_ALREADY_EXISTS

    stage.run(work)
    topic = stage.cluster.topics["new"]
    assert (len(topic.partitions), topic.partitions[0].replicas, topic.is_compacted) == (3, (1, 2), True)


def test_offsets_are_listed_at_the_leader() -> None:
    stage = Stage()
    log = stage.cluster.topics["events"].partitions[0]
    log.append([NewRecord(b"k", b"v")] * 3)
    log.append([NewRecord(b"k", b"v")], producer=(7, 0), sequence=0, is_transactional=True)
    log.remove_before(1)

    def offset_of(admin: SimAdminClient, spec: Any, level: IsolationLevel = COMMITTED) -> int:
        wanted = {EVENTS: spec}
        return admin.list_offsets(wanted, isolation_level=level, request_timeout=3)[EVENTS].result(6).offset

    def work(admin: SimAdminClient) -> None:
        assert offset_of(admin, OffsetSpec.earliest()) == 1  # type: ignore[no-untyped-call]
        assert offset_of(admin, OffsetSpec.latest()) == 3  # type: ignore[no-untyped-call]
        assert offset_of(admin, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED) == 4  # type: ignore[no-untyped-call]
        stage.cluster.elect("events", 0, leader=2)
        assert offset_of(admin, OffsetSpec.earliest()) == 1  # type: ignore[no-untyped-call]
        nothing = TopicPartition("nothing", 0)
        listed = admin.list_offsets({nothing: OffsetSpec.latest()}, request_timeout=3)  # type: ignore[no-untyped-call]
        assert code_of(listed[nothing]) == KafkaError.UNKNOWN_TOPIC_OR_PART

    stage.run(work)


def test_a_group_without_members_is_moved() -> None:
    stage = Stage()
    stage.cluster.brokers[1].produce("events", 0, Batch([NewRecord(b"k", b"v")] * 5))

    def work(admin: SimAdminClient) -> None:
        assert admin.describe_consumer_groups(["group"])["group"].result().state == ConsumerGroupState.DEAD
        wanted = [TopicPartition("events", 0, 3), TopicPartition("nothing", 0, 3)]
        request = ConsumerGroupTopicPartitions("group", wanted)
        altered = admin.alter_consumer_group_offsets([request], request_timeout=3)["group"].result()
        first, second = altered.topic_partitions or []
        assert first.error is None
        assert second.error is not None
        assert second.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        assert admin.describe_consumer_groups(["group"])["group"].result().state == ConsumerGroupState.EMPTY

    stage.run(work)
    assert stage.cluster.coordinator("group").commits["events", 0].offset == 3
