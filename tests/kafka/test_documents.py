"""Destination documents on a compacted topic: read to the end, followed, and written, on either broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.kafka import documents as module
from pushrail_stream.kafka.documents import ASKED_OFTEN_MS, TopicDocuments, TopicStore
from pushrail_stream.kafka.producer import KafkaPublisher
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka import topics
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.kafka.fixtures import LocalKafkaFactory, NewTopic
from tests.support.patience import PATIENCE_SECS

pytestmark = pytest.mark.kafka


def write(bootstrap: str, topic: str, records: Iterable[tuple[str | None, bytes | None]], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(30) == 0


@asynccontextmanager
async def documents(bootstrap: str, topic: str) -> AsyncIterator[TopicDocuments]:
    async with (
        asyncio.timeout(PATIENCE_SECS),
        TopicDocuments(KafkaSettings(bootstrap_servers=bootstrap), topic) as opened,
    ):
        yield opened


async def test_the_first_read_has_the_latest_documents(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=3)
    for partition, names in enumerate(("ab", "cd", "e")):
        write(kafka_bootstrap, topic, [(name, b"old") for name in names], partition)
    write(kafka_bootstrap, topic, [("a", b"new"), ("b", None)], 0)
    async with documents(kafka_bootstrap, topic) as read:
        found = await read.changes()
    assert sorted(found) == [DocumentChange(name, b"new" if name == "a" else b"old") for name in "acde"]


async def test_an_empty_topic_is_followed(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    async with documents(kafka_bootstrap, topic) as read:
        assert await read.changes() == []
        await asyncio.to_thread(write, kafka_bootstrap, topic, [("a", b"1")], 1)
        assert await read.changes() == [DocumentChange("a", b"1")]
        await asyncio.to_thread(write, kafka_bootstrap, topic, [("a", None)], 1)
        assert await read.changes() == [DocumentChange("a", None)]


async def test_documents_may_exceed_one_batch(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    write(kafka_bootstrap, topic, [(f"d{n}", b"x" * 500) for n in range(3_000)])
    async with documents(kafka_bootstrap, topic) as read:
        assert len(await read.changes()) == 3_000


async def test_records_with_odd_keys_are_documents(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    write(kafka_bootstrap, topic, [(None, b"no key"), ("", b"empty key"), ("a", b"")])
    async with documents(kafka_bootstrap, topic) as read:
        assert sorted(await read.changes()) == [DocumentChange("", b"empty key"), DocumentChange("a", b"")]


async def test_uncommitted_records_are_ignored(real_kafka: str, request: pytest.FixtureRequest) -> None:
    topic = topics.unique_name("documents")
    topics.create_topic(real_kafka, topic, partitions=1)
    request.addfinalizer(lambda: topics.delete_topics(real_kafka, [topic]))
    producer = Producer({"bootstrap.servers": real_kafka, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    for value, commits in ((b"kept", True), (b"given up", False)):
        producer.begin_transaction()
        producer.produce(topic, value, "a")
        producer.flush(30)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    async with documents(real_kafka, topic) as read:
        assert await read.changes() == [DocumentChange("a", b"kept")]


async def test_a_missing_topic_is_named(real_kafka: str) -> None:
    async with documents(real_kafka, "no-such-topic") as read:
        with pytest.raises(OperatorError, match=r"no-such-topic cannot be read at .*: .*[Uu]nknown topic"):
            await read.changes()


async def test_an_unreachable_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.admin._TIMEOUT_SECS", 1.0)
    async with documents("127.0.0.1:1", "documents") as read:
        with pytest.raises(OperatorError, match=r"documents cannot be read at 127.0.0.1:1: "):
            await read.changes()


async def test_a_forbidden_topic_is_read_once_allowed() -> None:
    with BreakableBroker.start({"documents": 1}) as broker:
        bootstrap = broker.bootstrap_servers
        write(bootstrap, "documents", [("a", b"1")])
        broker.push_request_errors(ApiKey.FETCH, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 10_000)
        async with documents(bootstrap, "documents") as read:
            with pytest.raises(OperatorError, match=r"documents cannot be read at .*: .*authorization failed"):
                await read.changes()
            broker.clear_request_errors(ApiKey.FETCH)
            assert await read.changes() == [DocumentChange("a", b"1")]
            broker.push_request_errors(ApiKey.FETCH, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 10_000)
            with pytest.raises(OperatorError, match=r"documents cannot be read at .*: .*authorization failed"):
                await read.changes()
            broker.clear_request_errors(ApiKey.FETCH)
            write(bootstrap, "documents", [("a", b"2")])
            assert await read.changes() == [DocumentChange("a", b"2")]


async def test_a_read_without_progress_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.documents._SILENCE_SECS", 0.5)
    with BreakableBroker.start({"documents": 1}) as broker:
        write(broker.bootstrap_servers, "documents", [("a", b"1")])
        broker.push_request_errors(ApiKey.FETCH, *[KafkaError.REQUEST_TIMED_OUT] * 10_000)
        async with documents(broker.bootstrap_servers, "documents") as read:
            with pytest.raises(OperatorError, match=r"documents cannot be read at .*: .*Request timed out"):
                await read.changes()


async def test_a_read_survives_a_broker_restart(local_kafka_factory: LocalKafkaFactory) -> None:
    """Changes during the outage are found afterwards."""
    kafka = local_kafka_factory()
    topics.create_topic(kafka.bootstrap_servers, "documents", partitions=1)
    write(kafka.bootstrap_servers, "documents", [("a", b"1")])
    async with documents(kafka.bootstrap_servers, "documents") as read:
        assert await read.changes() == [DocumentChange("a", b"1")]
        await asyncio.to_thread(kafka.stop)
        await asyncio.to_thread(kafka.start)
        await asyncio.to_thread(write, kafka.bootstrap_servers, "documents", [("a", b"2")])
        assert await read.changes() == [DocumentChange("a", b"2")]


async def test_a_written_document_is_read_at_once(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    """A rotation reads again and again: were it to wait 0.2 s each time, this would not end in time."""
    topic = new_topic()
    options = KafkaSettings(bootstrap_servers=kafka_bootstrap)
    async with (
        asyncio.timeout(PATIENCE_SECS),
        TopicDocuments(options, topic, fetch_wait_ms=ASKED_OFTEN_MS) as desk,
        KafkaPublisher(options) as publisher,
    ):
        store = TopicStore(desk, publisher, topic)
        for number in range(250):
            await store.write("a", f"{number}".encode())
            assert await store.read("a") == f"{number}".encode()


async def test_other_readers_see_the_stores_writes(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    options = KafkaSettings(bootstrap_servers=kafka_bootstrap)
    async with (
        documents(kafka_bootstrap, topic) as worker,
        documents(kafka_bootstrap, topic) as desk,
        KafkaPublisher(options) as publisher,
    ):
        assert await worker.changes() == []
        store = TopicStore(desk, publisher, topic)
        assert await store.everything() == []
        await store.write("a", b"1")
        await store.write("b", b"1")
        assert sorted(await store.everything()) == [DocumentChange("a", b"1"), DocumentChange("b", b"1")]
        await store.write("a", b"2")
        await store.write("b", None)
        assert (await store.read("a"), await store.read("b"), await store.read("c")) == (b"2", None, None)
        seen: dict[str, bytes | None] = {}
        while seen != {"a": b"2", "b": None}:
            seen |= {change.name: change.content for change in await worker.changes()}


async def until_recreated(ask: Callable[[], Awaitable[object]]) -> str:
    """The error when the other topic is noticed. Before that, its records behind the old position may come."""
    while True:
        try:
            await ask()
        except TopicRecreated as error:
            return str(error)
        except OperatorError:  # while there is no topic
            continue


@pytest.fixture
def own_topic(real_kafka: str) -> Iterator[str]:
    """A topic on the real broker, which tells ids."""
    with topics.fresh_topic(real_kafka) as name:
        yield name


async def test_a_recreated_topic_is_read_from_0(real_kafka: str, own_topic: str) -> None:
    topic = own_topic
    write(real_kafka, topic, [(name, b"old") for name in "abc"])
    async with documents(real_kafka, topic) as read:
        assert len(await read.changes()) == 3
        await asyncio.to_thread(topics.recreate_topic, real_kafka, topic, partitions=2)
        write(real_kafka, topic, [(name, b"new") for name in "cdefg"])
        write(real_kafka, topic, [("h", b"new"), ("i", None)], partition=1)
        assert "documents that it does not hold stay in use" in await until_recreated(read.changes)
        found = sorted(await read.changes())
        assert found == [*(DocumentChange(name, b"new") for name in "cdefgh"), DocumentChange("i", None)]
        write(real_kafka, topic, [("c", None)])
        assert await read.changes() == [DocumentChange("c", None)]


async def test_a_topic_recreated_after_elections_is_read(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = local_kafka_factory()
    topics.create_topic(kafka.bootstrap_servers, "documents")
    kafka.restart()  # the partition gets a leader of a higher epoch
    write(kafka.bootstrap_servers, "documents", [("a", b"old")])
    async with documents(kafka.bootstrap_servers, "documents") as read:
        assert len(await read.changes()) == 1
        await asyncio.to_thread(topics.recreate_topic, kafka.bootstrap_servers, "documents")
        write(kafka.bootstrap_servers, "documents", [("a", b"new")])
        await until_recreated(read.changes)
        assert await read.changes() == [DocumentChange("a", b"new")]


async def test_a_recreated_topic_is_read_again_when_every_broker_knows_it(
    real_kafka: str, own_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then a broker may have served the deleted topic."""
    topic = own_topic
    write(real_kafka, topic, [("a", b"old"), ("b", b"old")])
    monkeypatch.setattr(module, "LATE_BROKERS_SECS", 2.0)
    async with documents(real_kafka, topic) as read:
        assert len(await read.changes()) == 2
        await asyncio.to_thread(topics.recreate_topic, real_kafka, topic)
        write(real_kafka, topic, [("a", b"new"), ("b", None)])
        await until_recreated(read.changes)
        everything = [DocumentChange("a", b"new"), DocumentChange("b", None)]
        assert sorted(await read.changes()) == everything
        assert sorted(await read.changes()) == everything
        write(real_kafka, topic, [("a", b"newer")])
        assert await read.changes() == [DocumentChange("a", b"newer")]


async def test_a_recreated_topic_clears_the_store(real_kafka: str, own_topic: str) -> None:
    topic = own_topic
    write(real_kafka, topic, [("a", b"old"), ("b", b"old")])
    async with (
        documents(real_kafka, topic) as read,
        KafkaPublisher(KafkaSettings(bootstrap_servers=real_kafka)) as publisher,
    ):
        store = TopicStore(read, publisher, topic)
        assert len(await store.everything()) == 2
        await asyncio.to_thread(topics.recreate_topic, real_kafka, topic)
        await until_recreated(store.everything)
        write(real_kafka, topic, [("a", b"new")])
        assert await store.everything() == [DocumentChange("a", b"new")]


def test_an_unreadable_topic_delays_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ended, answered = threading.Event(), threading.Event(), threading.Event()

    class Silent(Consumer):
        """Gets no answer about the topic's partitions."""

        def list_topics(self, *_arguments: Any, **_options: Any) -> Any:
            asked.set()
            ended.wait(60)
            answered.set()
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    async def give_up_reading() -> None:
        async with (
            TopicDocuments(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "documents") as documents,
            asyncio.TaskGroup() as tasks,
        ):
            reading = tasks.create_task(documents.changes())
            await asyncio.to_thread(asked.wait)
            reading.cancel()

    monkeypatch.setattr(module, "Consumer", Silent)
    asyncio.run(give_up_reading())  # waits for the threads of the loop's executor
    assert not answered.is_set()
    ended.set()
