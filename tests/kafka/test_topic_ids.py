"""Commits belong to one topic: a topic of the same name, created again, is read from its beginning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pushrail_stream.core.offsets import Committable, decode_settled, encode_metadata, topic_of
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.signals import CommitFailed, KafkaTrouble, PartitionRestarted
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.sandbox.bus.faults import CallError, Hang, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import event, with_access_key
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.topics import recreate_topic
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import (
    PARTITIONS,
    committed,
    ends,
    make_topics,
    open_bus,
    produce,
    read_all,
    running,
    settings_for,
)

pytestmark = pytest.mark.kafka
CUSTOMER = "acct_0"
"""All records have its key and lie in one partition."""


def records(numbers: Iterable[int]) -> list[tuple[str, bytes]]:
    return [(CUSTOMER, event(0, number)) for number in numbers]


def recreate(settings: Settings, topic: str) -> None:
    """Delete the topic, which holds something, and create it again, with as many partitions.

    Until the new one is seen to be empty, a broker may still append records to the old one.
    """
    recreate_topic(settings.kafka.bootstrap_servers, topic, partitions=PARTITIONS)
    deadline = time.monotonic() + PATIENCE_SECS
    while not _is_empty(settings, topic):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_empty(settings: Settings, topic: str) -> bool:
    try:
        return not any(ends(settings, topic).values())
    except KafkaException:  # the broker does not know the new one yet
        return False


def with_kafka(settings: Settings, **changes: str) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=changes)})


def identity(settings: Settings, topic: str) -> TopicIdentity:
    return TopicIdentities(checked_kafka(settings)).ask([topic])[topic]


def place_of(settings: Settings, topic: str) -> int:
    """The partition that the customer's records lie in. Just after a topic was made, a broker may tell no end yet."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not (found := [number for number, end in ends(settings, topic).items() if end]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    [number] = found
    return number


def arrived(bus: FaultBus) -> list[str]:
    return [arrival.detail for arrival in bus.arrivals]


def details(numbers: Iterable[int]) -> set[str]:
    return {event(0, number).decode() for number in numbers}


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for a condition that no signal tells of, by asking again and again."""
    deadline = time.monotonic() + PATIENCE_SECS

    def look() -> bool:
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.2)
        return holds()

    assert await asyncio.to_thread(look)


async def until_all_arrived(bus: FaultBus, numbers: Sequence[int]) -> None:
    await eventually(lambda: details(numbers) <= set(arrived(bus)))


def commit(settings: Settings, group_id: str, topic: str, number: int, commit: Committable) -> None:
    """Commit as a tool does that moves offsets, or copies them from another cluster."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": group_id, "log_level": 0})
    try:
        consumer.commit(offsets=[TopicPartition(topic, number, commit.offset, commit.metadata)], asynchronous=False)
    finally:
        consumer.close()


@pytest.mark.parametrize("count", [20, 150], ids=["shorter than before", "longer than before"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_topic_recreated_while_read_is_whole(real_kafka: str, protocol: str, count: int) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        settings = with_kafka(settings, group_protocol=protocol)
        topic = settings.topics.events
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(100)))
            await worker.settled(100)
            await eventually(lambda: sum(committed(settings).values()) == 100)
            await asyncio.to_thread(recreate, settings, topic)
            await produce(settings, records(range(1000, 1000 + count)))
            await until_all_arrived(bus, range(1000, 1000 + count))
            if protocol == "classic":
                await worker.until(lambda: any(isinstance(s, PartitionRestarted) for s in worker.signals))
            now = await asyncio.to_thread(identity, settings, topic)
            await eventually(lambda: _topics_of_commits(settings) == {now})
        assert committed(settings) == ends(settings, topic)


def _topics_of_commits(settings: Settings) -> set[TopicIdentity | None]:
    group = committed_by(checked_kafka(settings), settings.kafka.group_id, settings.topics.events)
    return {topic_of(commit) for commit in group.values() if commit.offset}


async def test_a_commit_of_an_earlier_topic_is_void(real_kafka: str) -> None:
    """The commit of a worker that ended before it learned that the topic was created again."""
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        topic = settings.topics.events
        make_topics(settings)
        open_bus(bus, [0])
        old = identity(settings, topic)
        await produce(settings, records([900]))
        place_of(settings, topic)
        recreate(settings, topic)
        await produce(settings, records(range(10)))
        number = place_of(settings, topic)
        left = Committable(5, encode_metadata(5, [7], old))
        commit(settings, settings.kafka.group_id, topic, number, left)
        async with running(settings, [with_access_key(0)]) as worker:
            await until_all_arrived(bus, range(10))
            assert PartitionRestarted(Partition(topic, number), "recreated", 5) in worker.signals
        assert committed(settings)[number] == 10


async def test_a_recreated_retry_topic_loses_nothing(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, tiers=[3], delivery={"hold_secs": 0.5})
        [retry] = settings.topics.retry
        make_topics(settings)
        open_bus(bus, [0])
        bus.set_plan([Rule(CallError(503, "ServiceUnavailable"))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(20)))
            await eventually(lambda: sum(committed(settings).values()) == 20)
            await eventually(lambda: sum(committed(settings, retry).values()) > 0)
            await asyncio.to_thread(recreate, settings, retry)
            await worker.until(lambda: any(isinstance(s, PartitionRestarted) for s in worker.signals))
            await produce(settings, records(range(20, 40)))
            await eventually(lambda: sum(committed(settings).values()) == 40)
            bus.set_plan([])
            await until_all_arrived(bus, range(20, 40))


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
            await eventually(lambda: any(decode_settled(c) for c in _commits(settings).values()))
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
            await eventually(lambda: details(range(10)) <= set(arrived(bus)[before:]))
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
            await eventually(lambda: committed(settings) == ends(settings, settings.topics.events))
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
            await eventually(lambda: committed(settings)[number] == 100)
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.cut_off, topic, number, 50)
            await asyncio.to_thread(kafka.start)
            await produce(settings, records(range(1000, 1000 + count)))
            await until_all_arrived(bus, range(1000, 1000 + count))
            assert PartitionRestarted(Partition(topic, number), "went_back", 100) in worker.signals
            await eventually(lambda: committed(settings)[number] == 50 + count)


async def test_copies_name_the_events_topics_id(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, tiers=[1], delivery={"hold_secs": 0.5, "max_age_secs": 4})
        make_topics(settings)
        open_bus(bus, [0])
        bus.set_plan([Rule(CallError(503, "ServiceUnavailable"))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(1)))
            await worker.until(lambda: worker.worker.ledger.dead_lettered > 0)
        known = identity(settings, settings.topics.events).topic_id
        [(_, _, letter)] = read_all(settings, settings.topics.dlq)
        [retry] = settings.topics.retry
        copies = [headers for _, _, headers in read_all(settings, retry)]
        assert {said["pushrail-origin-topic-id"] for said in [letter, *copies]} == {known}
        assert copies
