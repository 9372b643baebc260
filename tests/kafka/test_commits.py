"""Commits carry the map of settled offsets, the topic's id and the leader epoch."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import OFFSET_INVALID, Producer, TopicPartition

from pushrail_stream.core.commit import Committable, decode_settled, encode_metadata, topic_of
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.signals import CommitFailed, KafkaTrouble, PartitionRestarted
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.commits import Commits
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.sandbox.bus.faults import Hang, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import with_access_key
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.positions import (
    arrived,
    commit,
    details,
    place_of,
    records,
    until_all_arrived,
    with_kafka,
)
from tests.support.workers import (
    committed,
    ends,
    make_topics,
    open_bus,
    produce,
    running,
    settings_for,
    until,
)

pytestmark = pytest.mark.kafka


class Positioned:
    """A consumer's client, as far as commits need it."""

    def __init__(self) -> None:
        self.place = TopicPartition("events", 0, OFFSET_INVALID)
        self.committed: list[tuple[int, int | None]] = []

    def position(self, _partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [self.place]

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        del asynchronous
        self.committed += [(one.offset, one.leader_epoch) for one in offsets]
        return offsets


def commit_one(commits: Commits, client: Positioned, partition: Partition, commit: Committable) -> None:
    """Commit, and get the answer."""
    commits.commit_async(client, {partition: commit})  # type: ignore[arg-type]
    commits.answered()


@pytest.mark.parametrize("at", [OFFSET_INVALID, 5])
def test_a_commit_has_a_leader_epoch_when_the_client_is_back_below_it(at: int) -> None:
    """An unclean election cut the log off at 5, after the records up to 10 had been read. They settle now."""
    client, partition, topic = Positioned(), Partition("events", 0), TopicIdentity("cluster", "topic")
    commits = Commits()
    client.place = TopicPartition("events", 0, 5, "", 3)
    commit_one(commits, client, partition, Committable(5, encode_metadata(5, [], topic, 3)))
    client.place = TopicPartition("events", 0, at)
    commit_one(commits, client, partition, Committable(10, encode_metadata(10, [], topic, 4)))
    commit_one(commits, client, partition, Committable(11, encode_metadata(11, [], topic)))
    assert client.committed == [(5, 3), (10, 4), (11, None)]


def test_a_commit_of_records_that_took_lost_offsets_names_their_epoch() -> None:
    """With the earlier epoch, the next owner would take them for lost, and read them again from where it ended."""
    client, partition, topic = Positioned(), Partition("events", 0), TopicIdentity("cluster", "topic")
    commits = Commits()
    commits.start([TopicPartition("events", 0, 69, "", 3)])
    client.place = TopicPartition("events", 0, 45)  # the log was cut off there while nobody read it
    commit_one(commits, client, partition, Committable(69, encode_metadata(69, [], topic, 3)))
    client.place = TopicPartition("events", 0, 52, "", 6)
    commit_one(commits, client, partition, Committable(50, encode_metadata(50, [], topic, 6)))
    client.place = TopicPartition("events", 0, 70, "", 6)
    commit_one(commits, client, partition, Committable(69, encode_metadata(69, [], topic, 6)))
    assert client.committed == [(69, 3), (50, 6), (69, 6)]


def test_one_commit_is_under_way_at_a_time() -> None:
    """librdkafka makes a commit again when its connection breaks: it would undo one that was made meanwhile."""
    client, partition = Positioned(), Partition("events", 0)
    commits = Commits()
    for offset in (5, 7):
        commits.commit_async(client, {partition: Committable(offset, "")})  # type: ignore[arg-type]
    assert client.committed == [(5, None)]
    commits.answered()
    commits.commit_async(client, {partition: Committable(9, "")})  # type: ignore[arg-type]
    assert client.committed == [(5, None), (9, None)]


@pytest.mark.parametrize("shift", [3, 0], ids=["translated offset", "same offset"])
async def test_a_carried_over_commit_keeps_its_offset(
    real_kafka: str, local_kafka_factory: LocalKafkaFactory, shift: int
) -> None:
    """MirrorMaker 2 translates a group's offsets and keeps the metadata; the topics' ids are the clusters' own."""
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        topic = settings.topics.events
        make_topics(settings)
        open_bus(bus, [0])
        # The first event stays open and the others settle: the commit has a map.
        bus.set_plan([Rule(Hang(), Match(detail_contains=('"number": 0,',)))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(1)))
            await bus.wait_for_calls(1)
            await produce(settings, records(range(1, 10)))
            await until_all_arrived(bus, range(1, 10))
            await until(lambda: any(decode_settled(c) for c in _commits(settings).values()))
            [left] = [c for c in _commits(settings).values() if decode_settled(c)]
        mirror = local_kafka_factory()
        over_there = with_kafka(settings, bootstrap_servers=mirror.bootstrap_servers)
        make_topics(over_there)
        await produce(over_there, records(range(100, 100 + shift)), partitioner="murmur2_random")
        await produce(over_there, records(range(10)), partitioner="murmur2_random")
        number = place_of(over_there, topic)
        commit(over_there, settings.kafka.group_id, topic, number, Committable(left.offset + shift, left.metadata))
        bus.set_plan([])
        before = len(bus.arrivals)
        async with running(over_there, [with_access_key(0)]) as worker:
            await until(lambda: details(range(10)) <= set(arrived(bus)[before:]))
            assert not any(isinstance(s, PartitionRestarted) for s in worker.signals)
        assert not details(range(100, 100 + shift)) & set(arrived(bus)), "what was committed is not read again"


def _commits(settings: Settings) -> dict[int, Committable]:
    return committed_by(checked_kafka(settings), settings.kafka.group_id, settings.topics.events)


@pytest.mark.parametrize(("size", "names_topic"), [(60, True), (10, False)])
async def test_a_small_metadata_limit_is_respected(
    local_kafka_factory: LocalKafkaFactory, size: int, *, names_topic: bool
) -> None:
    kafka = local_kafka_factory({"offset.metadata.max.bytes": str(size)})
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka.bootstrap_servers, bus.url, delivery={"hold_secs": 60})
        make_topics(settings)
        open_bus(bus, [0])
        bus.set_plan([Rule(Hang(), Match(detail_contains=('"number": 0,',)))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(1)))
            await bus.wait_for_calls(1)
            await produce(settings, records(range(1, 300, 2)))
            await worker.until(lambda: any(isinstance(s, KafkaTrouble) for s in worker.signals))
            bus.set_plan([])
            await produce(settings, records(range(300, 310)))
            await until_all_arrived(bus, [0, *range(300, 310)])
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
            troubles = [s for s in worker.signals if isinstance(s, KafkaTrouble | CommitFailed)]
            assert len(troubles) <= 2, "it is remembered"
        [left] = [commit for commit in _commits(settings).values() if commit.offset]
        assert (topic_of(left) is not None) == names_topic


async def test_a_truncated_log_that_grew_is_read_again(
    local_kafka_factory: LocalKafkaFactory,
) -> None:
    """As after an unclean leader election. Without the leader's epoch in the commit, new events would be skipped."""
    kafka = local_kafka_factory()
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka.bootstrap_servers, bus.url)
        topic = settings.topics.events
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            for first in range(0, 100, 10):
                await produce(settings, records(range(first, first + 10)))
            await worker.settled(100)
        assert sum(committed(settings).values()) == 100
        number = place_of(settings, topic)
        kafka.kill()
        kafka.cut_off(topic, number, 50)
        kafka.start()
        await produce(settings, records(range(1000, 1100)))
        assert ends(settings, topic)[number] == 150
        async with running(settings, [with_access_key(0)]) as worker:
            await until_all_arrived(bus, range(1000, 1100))
        assert committed(settings)[number] == 150


@pytest.mark.parametrize("count", [20, 100], ids=["shorter than before", "longer than before"])
async def test_a_log_truncated_while_read_is_reread(local_kafka_factory: LocalKafkaFactory, count: int) -> None:
    kafka = local_kafka_factory()
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka.bootstrap_servers, bus.url)
        topic = settings.topics.events
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            for first in range(0, 100, 10):
                await produce(settings, records(range(first, first + 10)))
            await worker.settled(100)
            number = await asyncio.to_thread(place_of, settings, topic)
            await until(lambda: committed(settings)[number] == 100)
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.cut_off, topic, number, 50)
            await asyncio.to_thread(kafka.start)
            await produce(settings, records(range(1000, 1000 + count)))
            await until_all_arrived(bus, range(1000, 1000 + count))
            assert PartitionRestarted(Partition(topic, number), "went_back", 100) in worker.signals
            await until(lambda: committed(settings)[number] == 50 + count)


async def test_a_new_leaders_marker_is_committed_past(local_kafka_factory: LocalKafkaFactory) -> None:
    """No record follows it: a transaction ends after an election, and nothing else is written."""
    kafka = local_kafka_factory()
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka.bootstrap_servers, bus.url)
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(10)))
            await worker.settled(10)
            number = await asyncio.to_thread(place_of, settings, settings.topics.events)
            await until(lambda: committed(settings)[number] == 10)
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.start)
            await asyncio.to_thread(abort_one, kafka.bootstrap_servers, settings.topics.events, number)
            assert ends(settings, settings.topics.events)[number] == 12
            await until(lambda: committed(settings)[number] == 12)
            assert [signal for signal in worker.signals if isinstance(signal, PartitionRestarted)] == []


def abort_one(kafka: str, topic: str, number: int) -> None:
    """Write a record and its transaction's marker. No reader of committed records gets anything."""
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"{}", partition=number)
    producer.flush(60)
    producer.abort_transaction(60)
