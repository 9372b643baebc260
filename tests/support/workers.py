"""Whole workers between a broker and a bus: topics, customers, a producer, and readers of what workers leave."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import Attempted, Signal
from pushrail_stream.kafka import fleet, producer
from pushrail_stream.kafka.admin import retry_while_settling
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.records import records_of
from pushrail_stream.kafka.topics import create_topics, plan_topics
from pushrail_stream.observe.logging import open_log
from pushrail_stream.ports.pipeline import Directory
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.registry.watcher import RegistryWatcher
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from pushrail_stream.worker import Worker, run_worker
from tests.support.builders import KEY_ID, SECRET, bus_arn, modified
from tests.support.kafka.topics import wait_until_there
from tests.support.patience import PATIENCE_SECS

PARTITIONS = 3
_POLLS = {module: module._POLL_SECS for module in (fleet, producer)}
_BRIEF_SECS = 0.03
"""With it a worker stops half a second sooner."""


def settings_for(bootstrap: str, bus_url: str, *, tiers: Sequence[float] = (10,), **sections: Any) -> Settings:
    """Settings with topics and a group of their own, so that tests share a broker in peace.

    ``tiers``: the retry tiers' delays in seconds.
    """
    tag = uuid.uuid4().hex[:8]
    names = {
        name: f"{tag}.{name}"
        for name in (
            "events",
            "dlq",
            "attempts",
            "destinations",
            "replays",
            "workers",
            "control",
            "cursors",
            "notices",
            "audit",
        )
    }
    return Settings.model_validate(
        {
            "vendor": "acme",
            "kafka": {"bootstrap_servers": bootstrap, "group_id": f"group-{tag}"},
            "topics": names | {"retry": {f"{tag}.retry.{secs:g}s": secs for secs in tiers}},
            "eventbridge": {"endpoint_url": bus_url},
            "sts": {"endpoint_url": bus_url},
            "http": {"port": 0},
        }
        | sections
    )


def make_topics(settings: Settings, broker: EmbeddedBroker | None = None) -> None:
    plans = plan_topics(settings, PARTITIONS)
    if broker is not None:
        for plan in plans:
            broker.create_topic(plan.name, plan.partitions)
    else:
        create_topics(checked_kafka(settings), plans, 1, dry_run=False)
        admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
        for plan in plans:
            wait_until_there(admin, plan.name)


def open_bus(bus: FaultBus, customers: Iterable[int]) -> None:
    for customer in customers:
        bus.add_bus(bus_arn(customer))
    bus.add_key(KEY_ID, SECRET)


async def produce(settings: Settings, records: Iterable[tuple[str, bytes | None]], **config: Any) -> None:
    """Write (key, value) records to the events topic and wait until Kafka has them."""
    failures: list[KafkaError] = []

    def send() -> None:
        producer = Producer(
            {
                "bootstrap.servers": settings.kafka.bootstrap_servers,
                "message.max.bytes": 8_000_000,
                "compression.type": "lz4",
                # A request that is tried again leaves the order as it is. (Idempotence begins half a second late.)
                "max.in.flight": 1,
                "log_level": 0,
            }
            | config
        )
        for key, value in records:
            producer.produce(
                settings.topics.events,
                value,
                key,
                on_delivery=lambda error, _message: failures.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(60) == 0

    await asyncio.to_thread(send)
    assert not failures


@dataclass
class Watched:
    """A worker and its signals; `until` waits without polling: it looks after every signal."""

    worker: Worker
    signals: list[Signal] = field(default_factory=list)
    unbalanced: list[Signal] = field(default_factory=list)
    """Signals at which the ledger did not balance."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, signal: Signal) -> None:
        self.signals.append(signal)
        if not self.worker.ledger.balances:
            self.unbalanced.append(signal)
        self._wake.set()

    async def until(self, holds: Callable[[], bool], within_secs: float = PATIENCE_SECS) -> None:
        async with asyncio.timeout(within_secs):
            while not holds():
                self._wake.clear()
                await self._wake.wait()

    async def settled(self, deliveries: int, within_secs: float = PATIENCE_SECS) -> None:
        ledger = self.worker.ledger
        await self.until(lambda: ledger.begun >= deliveries and ledger.in_flight == 0, within_secs)
        assert ledger.balances


@asynccontextmanager
async def running(
    settings: Settings, destinations: Sequence[Destination] | Directory, *, updater: RegistryWatcher | None = None
) -> AsyncIterator[Watched]:
    """A worker for the length of the block; it is stopped as SIGTERM would at the end. ``updater`` keeps its directory.

    At every signal, until it has ended, its ledger has to balance.
    """
    if isinstance(destinations, Sequence):
        flush_ms = settings.delivery.flush_ms
        flushed = (modified(one, limits=replace(one.limits, flush_ms=flush_ms)) for one in destinations)
        directory: Directory = DestinationIndex((f"{one.id}.json", one) for one in flushed)
    else:
        directory = destinations
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[Worker] = loop.create_future()
    watchers: list[Watched] = []

    def observe(signal: Signal) -> None:
        for watcher in watchers:
            watcher(signal)

    async with _brief_polls(), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(
            run_worker(
                settings,
                directory,
                open_log("warning"),
                updater=updater,
                observers=[observe],
                started=begun.set_result,
            )
        )
        either: list[asyncio.Future[Any]] = [work, begun]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        watched = Watched(await begun)
        watchers.append(watched)
        try:
            yield watched
        finally:
            watched.worker.stop()
    assert not watched.unbalanced


@asynccontextmanager
async def _brief_polls() -> AsyncIterator[None]:
    """Let the threads of workers ask librdkafka for so short a time that they soon see their end.

    Of several workers, the first that ends gives the others their usual patience back, which changes nothing else.
    """
    try:
        for module in _POLLS:
            module._POLL_SECS = _BRIEF_SECS  # type: ignore[attr-defined]
        yield
    finally:
        for module, shipped in _POLLS.items():
            module._POLL_SECS = shipped  # type: ignore[attr-defined]


def committed(settings: Settings, retry_topic: str | None = None) -> dict[int, int]:
    """Committed offsets of the events topic (or a retry topic) by partition; 0 where there is none."""
    group = settings.kafka.group_id if retry_topic is None else f"{settings.kafka.group_id}.retry"
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": group, "log_level": 0})
    try:
        wanted = [TopicPartition(retry_topic or settings.topics.events, number) for number in range(PARTITIONS)]
        return {
            p.partition: max(p.offset, 0) for p in retry_while_settling(lambda: consumer.committed(wanted, timeout=10))
        }
    finally:
        consumer.close()


def ends(settings: Settings, topic: str) -> dict[int, int]:
    """End offsets of a topic by partition."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "ends", "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return retry_while_settling(
            lambda: {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in partitions}
        )
    finally:
        consumer.close()


def read_all(settings: Settings, topic: str) -> list[tuple[bytes | None, bytes | None, dict[str, str]]]:
    """Every record of a topic: key, value and headers as text."""
    until = ends(settings, topic)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    found: list[tuple[bytes | None, bytes | None, dict[str, str]]] = []
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in until])
        missing = sum(until.values())
        while len(found) < missing:
            message = consumer.poll(10)
            assert message is not None, f"{missing - len(found)} records of {topic} are missing"
            assert message.error() is None
            [record] = records_of([message], {})
            headers = {name: (value or b"").decode() for name, value in record.headers}
            found.append((record.key, record.value, headers))
    finally:
        consumer.close()
    return found


PATIENT: Mapping[str, Any] = {"flush_ms": 5_000}
"""Batches leave when they are full: ten events of a customer that are produced at once are one batch."""


@asynccontextmanager
async def outside(
    kafka: EmbeddedBroker | str, customers: int = 1, **sections: Any
) -> AsyncIterator[tuple[FaultBus, Settings]]:
    """A bus for each customer, topics on Kafka, and the settings of a worker between them.

    ``kafka``: the embedded broker, or the address of another Kafka.
    """
    broker = kafka if isinstance(kafka, EmbeddedBroker) else None
    async with FaultBus.serve() as bus:
        settings = settings_for(broker.bootstrap_servers if broker else str(kafka), bus.url, **sections)
        make_topics(settings, broker)
        open_bus(bus, range(customers))
        yield bus, settings


async def until(holds: Callable[[], bool]) -> None:
    """Ask until the condition holds, rarely enough to leave the workers under test their time."""
    async with asyncio.timeout(PATIENCE_SECS):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.1)


LATENCY_SECS = 0.3
"""Long enough that calls that may be in flight together are, on a busy machine too."""


def max_in_flight(bus: FaultBus) -> int:
    """Calls that were in flight at once, by the bus's own records, where every reply takes `LATENCY_SECS`."""
    began = [call.at for call in bus.calls]
    return max(sum(at <= moment < at + 0.9 * LATENCY_SECS for at in began) for moment in began)


def letters(settings: Settings) -> list[tuple[bytes | None, str, str | None]]:
    """Every dead letter: value, reason and code."""
    topic = settings.topics.dlq
    return [
        (value, said["pushrail-reason"], said.get("pushrail-error-code"))
        for _, value, said in read_all(settings, topic)
    ]


def attempts(worker: Watched) -> dict[str, int]:
    """The number of attempts of each event, by idempotency key."""
    entries = [entry for signal in worker.signals if isinstance(signal, Attempted) for entry in signal.entries]
    return {
        key: sum(e.event.idempotency_key == key for e in entries) for key in {e.event.idempotency_key for e in entries}
    }
