"""Membership of the group, by either protocol: hand-over, static members, a name that is taken; being put out of it.

On a real Kafka, but for what only the embedded broker can be made to answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from pushrail_stream.core.commit import Committable, encode_metadata, topic_of, was_recreated
from pushrail_stream.core.record import NO_TOPIC_ID, Partition, TopicIdentity
from pushrail_stream.core.signals import (
    Backpressure,
    CommitFailed,
    KafkaTrouble,
    Membership,
    PartitionsAssigned,
    PartitionsRevoked,
    Signal,
)
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import consumer as consumer_module
from pushrail_stream.kafka import met_topics
from pushrail_stream.kafka.consumer import KafkaConsumer
from pushrail_stream.observe.logging import open_log
from pushrail_stream.pipeline.assignment import Due, FlowControl, ReadingPlace
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import Hang, Latency, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import Settings
from pushrail_stream.worker import Worker, run_worker
from tests.support.builders import event, with_access_key
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import (
    PARTITIONS,
    Watched,
    committed,
    ends,
    make_topics,
    open_bus,
    produce,
    running,
    settings_for,
)

pytestmark = pytest.mark.kafka
DESTINATIONS = [with_access_key(number) for number in range(6)]
EVERYTHING = 2 * PARTITIONS
"""Partitions of the events topic and of the one retry topic."""
INTERVAL_SECS = 5
"""The group's max.poll.interval, which may not be shorter than the session timeout."""
both_protocols = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def world(bootstrap: str, bus: FaultBus, protocol: str) -> Settings:
    settings = member(settings_for(bootstrap, bus.url), group_protocol=protocol)
    make_topics(settings)
    open_bus(bus, range(6))
    return settings


def member(settings: Settings, **kafka: str) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=kafka)})


def with_client(settings: Settings, properties: Mapping[str, object]) -> Settings:
    kafka = settings.kafka.model_copy(update={"client": ClientProperties(properties)})
    return settings.model_copy(update={"kafka": kafka})


def records(first: int, last: int) -> list[tuple[str, bytes | None]]:
    return [(f"acct_{number % 6}", event(number % 6, number)) for number in range(first, last)]


def owned(watched: Watched) -> set[Partition]:
    """The partitions that a worker has now."""
    mine: set[Partition] = set()
    for signal in watched.signals:
        if isinstance(signal, PartitionsAssigned):
            mine |= {partition for partition, _ in signal.partitions}
        elif isinstance(signal, PartitionsRevoked):
            mine -= set(signal.partitions)
    return mine


def share(one: Watched, other: Watched) -> bool:
    """Whether each has its part of the events and of the retries, and together they have all."""
    mine, theirs = owned(one), owned(other)
    topics = {partition.topic for partition in mine}
    both_have_both = len(topics) == 2 and topics == {partition.topic for partition in theirs}
    return both_have_both and not mine & theirs and len(mine | theirs) == EVERYTHING


async def until_shared(one: Watched, other: Watched) -> None:
    """Either's signal may be the last one, so a look at both is taken every tenth of a second as well."""
    async with asyncio.timeout(PATIENCE_SECS):
        while not share(one, other):
            with contextlib.suppress(TimeoutError):
                await one.until(lambda: share(one, other), 0.1)


@both_protocols
async def test_a_static_member_keeps_its_partitions(real_kafka: str, protocol: str) -> None:
    async with FaultBus.serve() as bus:
        settings = world(real_kafka, bus, protocol)
        stays, restarts = (member(settings, group_instance_id=name) for name in ("pod-1", "pod-2"))
        async with running(stays, DESTINATIONS) as other:
            async with running(restarts, DESTINATIONS) as before:
                await until_shared(before, other)
                part, told = owned(before), len(other.signals)
            produced = records(0, 120)
            await produce(settings, produced)
            async with running(restarts, DESTINATIONS) as after, asyncio.timeout(PATIENCE_SECS):
                await after.until(lambda: owned(after) == part)
                await bus.wait_for_arrivals(len(produced))
                # A rebalance's last round may still come in late, with nothing in it.
                moved = [s for s in other.signals[told:] if isinstance(s, PartitionsAssigned | PartitionsRevoked)]
        assert not any(signal.partitions for signal in moved)
        assert sorted(a.detail.encode() for a in bus.arrivals) == sorted(value or b"" for _, value in produced)
        assert committed(settings) == ends(settings, settings.topics.events)


async def test_the_consumer_protocol_loses_nothing(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = world(real_kafka, bus, "consumer")
        async with running(settings, DESTINATIONS) as stays:
            await produce(settings, records(0, 300))
            async with running(settings, DESTINATIONS) as passes:
                await produce(settings, records(300, 600))  # while the newcomer gets its part
                await until_shared(stays, passes)
            await produce(settings, records(600, 900))  # while it comes back
            await stays.until(lambda: len(owned(stays)) == EVERYTHING)
            async with asyncio.timeout(PATIENCE_SECS):
                await bus.wait_for_arrivals(900)
        assert {a.detail.encode() for a in bus.arrivals} == {value for _, value in records(0, 900)}
        assert committed(settings) == ends(settings, settings.topics.events)


@both_protocols
async def test_one_of_two_equal_names_ends(real_kafka: str, protocol: str) -> None:
    async with FaultBus.serve() as bus, asyncio.timeout(PATIENCE_SECS):
        settings = member(world(real_kafka, bus, protocol), group_instance_id="pod-1")
        directory = DestinationIndex((f"{one.id}.json", one) for one in DESTINATIONS)
        workers: list[Worker] = []
        joined = asyncio.Event()

        def observe(signal: Signal) -> None:
            if isinstance(signal, PartitionsAssigned) and signal.partitions:
                joined.set()

        async def work() -> str:
            """Why the worker ended; nothing when it was told to."""
            try:
                await run_worker(settings, directory, open_log("error"), observers=[observe], started=workers.append)
            except OperatorError as failed:
                return str(failed)
            return ""

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(work())
            await joined.wait()
            second = tasks.create_task(work())
            await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                worker.stop()
        [reason] = {first.result(), second.result()} - {""}
        assert "instance" in reason.lower()


async def test_a_slow_worker_stays_a_member(real_kafka: str) -> None:
    """The bus hangs and there is room for nothing more: the consumer is polled all the same."""
    client = {"max.poll.interval.ms": INTERVAL_SECS * 1000, "session.timeout.ms": 4000}
    async with FaultBus.serve() as bus:
        settings = settings_for(
            real_kafka, bus.url, delivery={"hold_secs": 60}, limits={"max_buffered_events": 40},
            eventbridge={"endpoint_url": bus.url, "read_timeout_secs": 1.7 * INTERVAL_SECS},
        )  # fmt: skip
        settings = with_client(settings, client)
        make_topics(settings)
        open_bus(bus, range(6))
        bus.set_plan([Rule(Hang(), Match(operation="PutEvents"))])
        async with running(settings, DESTINATIONS) as worker:
            produced = records(0, 1200)
            await produce(settings, produced)
            await worker.until(lambda: any(isinstance(s, Backpressure) and s.on for s in worker.signals))
            part, told = owned(worker), len(worker.signals)
            loop = asyncio.get_running_loop()
            over = loop.time() + 1.5 * INTERVAL_SECS
            # Time itself is the matter here; meanwhile whatever is heard of the group would end the wait.
            with contextlib.suppress(TimeoutError):
                await worker.until(lambda: _moved(worker, told), over - loop.time())
            assert not _moved(worker, told)
            assert loop.time() >= over
            bus.set_plan([])
            await worker.until(lambda: worker.worker.ledger.delivered >= len(produced))
            assert owned(worker) == part
            assert not _moved(worker, told)
        assert {a.detail.encode() for a in bus.arrivals} == {value for _, value in produced}
        assert committed(settings) == ends(settings, settings.topics.events)


def _moved(watched: Watched, told: int) -> bool:
    """Whether partitions came or went since then, or a commit was refused, or Kafka had something to complain of."""
    kinds = PartitionsAssigned | PartitionsRevoked | CommitFailed | KafkaTrouble | Membership
    return any(isinstance(signal, kinds) for signal in watched.signals[told:])


@pytest.mark.parametrize(
    "error", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID], ids=["generation", "member"]
)
async def test_a_refused_commit_rejoins_the_group(error: int) -> None:
    with BreakableBroker.start({}) as broker:
        async with FaultBus.serve() as bus:
            settings = with_client(settings_for(broker.bootstrap_servers, bus.url), {"session.timeout.ms": 3000})
            make_topics(settings, broker)
            open_bus(bus, range(6))
            async with running(settings, DESTINATIONS) as worker:
                await worker.until(lambda: len(owned(worker)) == EVERYTHING)
                broker.push_request_errors(ApiKey.OFFSET_COMMIT, error)
                await produce(settings, records(0, 120))
                await worker.until(lambda: any(isinstance(s, PartitionsRevoked) and s.lost for s in worker.signals))
                await worker.until(lambda: len(owned(worker)) == EVERYTHING)
                await produce(settings, records(120, 240))
                await worker.until(lambda: len({a.detail for a in bus.arrivals}) == 240)
            assert {a.detail.encode() for a in bus.arrivals} == {value for _, value in records(0, 240)}
            assert committed(settings) == ends(settings, settings.topics.events)


async def test_a_second_cancellation_ends_well(
    embedded_broker: EmbeddedBroker,
) -> None:
    """As a loop does that is closed in a hurry: every task is cancelled, and then once more."""
    async with FaultBus.serve() as bus:
        settings = settings_for(embedded_broker.bootstrap_servers, bus.url)
        make_topics(settings, embedded_broker)
        open_bus(bus, range(6))
        directory = DestinationIndex((f"{one.id}.json", one) for one in DESTINATIONS)
        bus.set_plan([Rule(Latency(1.0), Match(operation="PutEvents"))])
        async with asyncio.timeout(PATIENCE_SECS), asyncio.TaskGroup() as tasks:
            tasks.create_task(run_worker(settings, directory, open_log("error")))
            await produce(settings, records(0, 10))
            await bus.wait_for_calls(1)
            members = [
                task
                for task in asyncio.all_tasks()
                if getattr(task.get_coro(), "__qualname__", "") == KafkaConsumer.run.__qualname__
            ]
            assert len(members) == 2
            for _ in range(2):
                for task in members:
                    task.cancel()
                await asyncio.sleep(0)
        assert sum(committed(settings).values()) == len(bus.arrivals) > 0


async def test_without_an_offset_a_worker_can_fail(real_kafka: str) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    settings = with_client(settings, {"auto.offset.reset": "error"})
    make_topics(settings)
    await produce(settings, [("acct_1", event(1, 1))])
    directory = DestinationIndex((f"{one.id}.json", one) for one in DESTINATIONS)
    async with asyncio.timeout(PATIENCE_SECS):
        with pytest.raises(OperatorError, match=r"no offset to begin at.*auto\.offset\.reset to error"):
            await run_worker(settings, directory, open_log("error"))


async def test_only_events_require_an_offset(real_kafka: str) -> None:
    """The retry topics of a new installation have none, and no command sets one."""
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        open_bus(bus, [1])
        consumer = Consumer({"bootstrap.servers": real_kafka, "group.id": settings.kafka.group_id, "log_level": 0})
        starts = [TopicPartition(settings.topics.events, number, 0) for number in range(PARTITIONS)]
        consumer.commit(offsets=starts, asynchronous=False)
        consumer.close()
        await produce(settings, [("acct_1", event(1, 1))])
        async with running(with_client(settings, {"auto.offset.reset": "error"}), [with_access_key(1)]) as worker:
            await worker.settled(1)
        assert len(bus.arrivals) == 1


class IdleClient:
    """A client that reads nothing. Its first poll assigns a partition."""

    made: list[IdleClient]
    on_poll: Callable[[], None]
    last_commit = Committable(9, encode_metadata(9, [], TopicIdentity("cluster", "old")))
    """The group's."""

    def __init__(self, _properties: Mapping[str, Any]) -> None:
        self.polls = 0
        self.begun_at = 0
        self.made.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def subscribe(self, _topics: list[str], *, on_assign: Callable[..., None], **_callbacks: object) -> None:
        self.on_assign = on_assign

    def poll(self, _secs: float) -> None:
        self.polls += 1
        if self.polls == 1:
            self.on_assign(self, [TopicPartition("events", 0)])
        IdleClient.on_poll()
        time.sleep(0.01)

    def committed(self, _partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        return [TopicPartition("events", 0, *IdleClient.last_commit[:2])]

    def incremental_assign(self, starts: list[TopicPartition]) -> None:
        self.begun_at = starts[0].offset

    def seek(self, _place: TopicPartition) -> None:
        pass

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        IdleClient.last_commit = Committable(offsets[0].offset, offsets[0].metadata or "")
        return None if asynchronous else offsets

    def position(self, _partitions: list[TopicPartition]) -> list[TopicPartition]:
        return []


class OnePartition:
    """An assignment that always has the same to commit."""

    def __init__(self) -> None:
        self.topic: TopicIdentity | None = None

    def assigned(
        self, committed: Mapping[Partition, Committable], topics: Mapping[str, TopicIdentity], _cursors: object
    ) -> set[Partition]:
        self.topic = topics["events"]
        return {p for p, commit in committed.items() if was_recreated(topic_of(commit), self.topic)}

    def accept_poll(self, records: object, topics: Mapping[str, TopicIdentity], _readings: object) -> Due:
        if was_recreated(self.topic, topics["events"]):
            return Due(self.accept(records), {Partition("events", 0): topics["events"]})
        return Due(self.accept(records), {}, self.committable())

    def restart(self, partitions: Mapping[Partition, TopicIdentity]) -> None:
        [self.topic] = partitions.values()

    def committable(self) -> list[tuple[Partition, Committable]]:
        return [(Partition("events", 0), Committable(4, encode_metadata(4, [6], self.topic)))]

    async def revoked(self, *_: object, **_more: object) -> list[tuple[Partition, Committable]]:
        return self.committable()

    def accept(self, _records: object) -> FlowControl:
        return FlowControl(hold=False, full=frozenset())

    def note_positions(self, _readings: object) -> None:
        pass


async def test_a_client_that_began_amid_a_recreation_is_replaced_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that hears late of the new topic serves the earlier one to it: its commits are none of the new one."""

    def go_on() -> None:
        seen[len(clients)] = topic_of(IdleClient.last_commit)
        if clients[0].polls == 10:
            identities.known = {"events": new}
        if len(clients) > 2 and clients[2].polls == 60:
            member.stop()

    old, new = TopicIdentity("cluster", "old"), TopicIdentity("cluster", "new")
    clients: list[IdleClient] = []
    seen: dict[int, TopicIdentity | None] = {}
    monkeypatch.setattr(IdleClient, "made", clients, raising=False)
    monkeypatch.setattr(IdleClient, "on_poll", go_on, raising=False)
    monkeypatch.setattr(consumer_module, "Consumer", IdleClient)
    monkeypatch.setattr(consumer_module, "_COMMIT_SECS", 0.01)
    monkeypatch.setattr(met_topics, "LATE_BROKERS_SECS", 0.2)
    identities: Any = SimpleNamespace(known={"events": old}, ask=lambda _topics: identities.known)
    assignment: Any = OnePartition()
    profile: Any = SimpleNamespace(properties=dict, batch=10, group_id="group")
    member = KafkaConsumer(profile, ["events"], assignment, lambda _signal: None, identities=identities, drain_secs=1.0)
    async with asyncio.timeout(PATIENCE_SECS):
        await member.run()
    assert len(clients) == 3, "one for the new topic, and one for what the second may have met"
    assert seen == {1: old, 2: old._replace(topic_id=NO_TOPIC_ID), 3: new}
    assert [client.begun_at for client in clients] == [9, OFFSET_BEGINNING, OFFSET_BEGINNING]


def consumer_of(assignment: Any, observe: Observer) -> KafkaConsumer:
    """A consumer of a topic that stays the same."""
    known = {"events": TopicIdentity("cluster", "old")}
    identities: Any = SimpleNamespace(known=known, ask=lambda _topics: known)
    profile: Any = SimpleNamespace(properties=dict, batch=10, group_id="group")
    return KafkaConsumer(profile, ["events"], assignment, observe, identities=identities, drain_secs=1.0)


class SeekingClient(IdleClient):
    """A client that cannot seek at first."""

    def seek(self, place: TopicPartition) -> None:
        self.sought.append((place.offset, place.leader_epoch))
        if len(self.sought) < 3:
            raise KafkaException(KafkaError(KafkaError._STATE))

    sought: list[tuple[int, int | None]]


class ReadAgain(OnePartition):
    """An assignment that wants to read on at another place."""

    def __init__(self) -> None:
        super().__init__()
        self.seeks = {Partition("events", 0): ReadingPlace(3, 1)}

    def accept(self, _records: object) -> FlowControl:
        return FlowControl(hold=False, full=frozenset(), seeks=dict(self.seeks))

    def sought(self, places: Mapping[Partition, ReadingPlace]) -> None:
        for partition in places:
            del self.seeks[partition]


async def test_a_seek_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_when_done() -> None:
        if not assignment.seeks:
            member.stop()

    sought: list[tuple[int, int | None]] = []
    monkeypatch.setattr(SeekingClient, "sought", sought, raising=False)
    monkeypatch.setattr(IdleClient, "made", [], raising=False)
    monkeypatch.setattr(IdleClient, "on_poll", stop_when_done, raising=False)
    monkeypatch.setattr(consumer_module, "Consumer", SeekingClient)
    monkeypatch.setattr(IdleClient, "last_commit", IdleClient.last_commit)
    signals: list[Signal] = []
    assignment = ReadAgain()
    member = consumer_of(assignment, signals.append)
    async with asyncio.timeout(PATIENCE_SECS):
        await member.run()
    assert sought == [(3, 1)] * 3
    assert sum(isinstance(signal, KafkaTrouble) for signal in signals) == 2


class Unread(OnePartition):
    """An assignment whose partition is not read, until a second client has begun."""

    def accept(self, _records: object) -> FlowControl:
        stuck = {Partition("events", 0)} if len(IdleClient.made) == 1 else set[Partition]()
        return FlowControl(hold=False, full=frozenset(), unread=frozenset(stuck))


async def test_a_client_that_reads_nothing_and_reports_no_error_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers refuse all its fetches: it has met the topic's earlier incarnation, and the worker never has."""

    def stop_when_done() -> None:
        if sum(client.polls for client in clients) > 20:
            member.stop()

    clients: list[IdleClient] = []
    monkeypatch.setattr(IdleClient, "made", clients, raising=False)
    monkeypatch.setattr(IdleClient, "on_poll", stop_when_done, raising=False)
    monkeypatch.setattr(consumer_module, "Consumer", IdleClient)
    monkeypatch.setattr(IdleClient, "last_commit", IdleClient.last_commit)
    signals: list[Signal] = []
    member = consumer_of(Unread(), signals.append)
    async with asyncio.timeout(PATIENCE_SECS):
        await member.run()
    assert len(clients) == 2
    assert [clients[0].polls, clients[1].polls > 10] == [1, True]
    assert ["its client is replaced" in signal.problem for signal in signals if isinstance(signal, KafkaTrouble)] == [
        True
    ]
