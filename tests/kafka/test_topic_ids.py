"""Commits belong to one topic: a topic of the same name, created again, is read from its beginning."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException

from pushrail_stream.core.commit import Committable, encode_metadata, topic_of
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.signals import PartitionRestarted
from pushrail_stream.kafka import met_topics
from pushrail_stream.kafka import topic_ids as module
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.sandbox.bus.faults import CallError, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import EventBridgeSettings, KafkaSettings, Settings
from tests.support.builders import with_access_key
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.positions import (
    commit,
    place_of,
    records,
    until_all_arrived,
    with_kafka,
)
from tests.support.kafka.topics import recreate_topic
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import (
    PARTITIONS,
    committed,
    ends,
    make_topics,
    open_bus,
    outside,
    produce,
    read_all,
    running,
    settings_for,
    until,
)

pytestmark = pytest.mark.kafka


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


def identity(settings: Settings, topic: str) -> TopicIdentity:
    return TopicIdentities(checked_kafka(settings)).ask([topic])[topic]


def told(topic_id: str) -> Future[Any]:
    answer: Future[Any] = Future()
    answer.set_result(SimpleNamespace(topic_id=topic_id))
    return answer


@pytest.mark.parametrize("first", ["old", "new"])
def test_the_id_is_that_which_brokers_tell_in_the_end(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts may hear the new topic's id first, and then the old one's from a broker that is late."""

    def at(secs: float, topic_id: str) -> str | None:
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1_000.0 + secs))
        admin.describe_topics = lambda *_args, **_options: {"events": told(topic_id)}
        identities.ask(["events"])
        return identities.id_of("events")

    cluster = SimpleNamespace(cluster_id="cluster", controller_id=1, brokers={1})
    admin: Any = SimpleNamespace(list_topics=lambda timeout: cluster if timeout > 0 else None)
    monkeypatch.setattr(module, "AdminClient", lambda _properties: admin)
    identities = TopicIdentities(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    second = {"old": "new", "new": "old"}[first]
    assert at(0, first) == first
    assert at(2, second) == second, "each may be the newer one"
    assert at(4, first) == second, "a broker may be late"
    assert at(33, "new") == "new", "every broker knows it"
    assert at(35, "new") == "new"


@pytest.mark.parametrize("count", [20, 150], ids=["shorter than before", "longer than before"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_topic_recreated_while_read_is_whole(
    real_kafka: str, protocol: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(met_topics, "LATE_BROKERS_SECS", 3.0)
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        settings = with_kafka(settings, group_protocol=protocol)
        topic = settings.topics.events
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(100)))
            await worker.settled(100)
            await until(lambda: sum(committed(settings).values()) == 100)
            await asyncio.to_thread(recreate, settings, topic)
            await produce(settings, records(range(1000, 1000 + count)))
            await until_all_arrived(bus, range(1000, 1000 + count))
            if protocol == "classic":
                await worker.until(lambda: any(isinstance(s, PartitionRestarted) for s in worker.signals))
            now = await asyncio.to_thread(identity, settings, topic)
            await until(lambda: _topics_of_commits(settings) == {now})
        assert committed(settings) == ends(settings, topic)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_topic_recreated_after_elections_is_read(local_kafka_factory: LocalKafkaFactory, protocol: str) -> None:
    """librdkafka keeps the leader epoch that it knows of the name, and brokers refuse fetches with a newer one."""
    kafka = local_kafka_factory()
    settings = with_kafka(settings_for(kafka.bootstrap_servers, "http://127.0.0.1:1"), group_protocol=protocol)
    make_topics(settings)
    kafka.restart()  # the partitions get leaders of higher epochs
    async with FaultBus.serve() as bus:
        settings = settings.model_copy(update={"eventbridge": EventBridgeSettings(endpoint_url=bus.url)})
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, records(range(10)))
            await worker.settled(10)
            await asyncio.to_thread(recreate, settings, settings.topics.events)
            await produce(settings, records(range(1000, 1020)))
            await until_all_arrived(bus, range(1000, 1020))


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
            await until(lambda: sum(committed(settings).values()) == 20)
            await until(lambda: sum(committed(settings, retry).values()) > 0)
            await asyncio.to_thread(recreate, settings, retry)
            await worker.until(lambda: any(isinstance(s, PartitionRestarted) for s in worker.signals))
            await produce(settings, records(range(20, 40)))
            await until(lambda: sum(committed(settings).values()) == 40)
            bus.set_plan([])
            await until_all_arrived(bus, range(20, 40))


async def test_copies_name_the_events_topics_id(real_kafka: str) -> None:
    async with outside(real_kafka, tiers=[1], delivery={"hold_secs": 0.5, "max_age_secs": 4}) as (bus, settings):
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
