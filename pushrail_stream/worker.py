"""The composition root: settings become an object graph that runs until it is told to stop. No logic."""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, final

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.event import VENDOR_HEADER
from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.core.lane import LaneLimits
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import RetryPolicy, Tier
from pushrail_stream.core.signals import RegistryChanged, SettingCaveat, Signal
from pushrail_stream.core.skips import find_skip
from pushrail_stream.errors import without_group
from pushrail_stream.eventbridge.bus import EventBridge, EventBridgeOptions
from pushrail_stream.eventbridge.kms import KmsKey
from pushrail_stream.kafka.consumer import KafkaConsumer
from pushrail_stream.kafka.documents import ASKED_OFTEN_MS, TopicDocuments, TopicStore
from pushrail_stream.kafka.lag import Watermarks
from pushrail_stream.kafka.options import KafkaOptions, kafka_options
from pushrail_stream.kafka.producer import KafkaLog, KafkaPublisher
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.kafka.topics import check_topics, topic_id, topics_named, worker_topics
from pushrail_stream.observe.attempts import AttemptsLog
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.incidents import RecentIncidents
from pushrail_stream.observe.logging import Logger, LogObserver
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.observe.open_files import OpenFiles
from pushrail_stream.observe.ops_server import serve_ops
from pushrail_stream.observe.readiness import Readiness
from pushrail_stream.observe.status_page import WorkerStatus, status_page
from pushrail_stream.observe.tracing import open_tracing
from pushrail_stream.pipeline.engine import Engine
from pushrail_stream.pipeline.policy import BufferLimits, Policy, Ports
from pushrail_stream.pipeline.stats import WorkerStats
from pushrail_stream.pipeline.unread_partitions import UnreadPartitions
from pushrail_stream.ports.documents import DirectoryUpdater, DocumentStore
from pushrail_stream.ports.pipeline import Directory, Observer, SkipOrder
from pushrail_stream.registry import (
    Catalog,
    Folder,
    FolderStore,
    Keyring,
    Parsed,
    Problem,
    RegistryWatcher,
    leave_sealed,
    parse_document,
    unseal_without_keyring,
)
from pushrail_stream.settings import Settings

_RETRY_SHARE: Final = 0.25
"""The retry topics' part of what a worker may hold: a backlog of retries does not keep new events waiting."""
_DRAIN_MARGIN_SECS: Final = 2.0
"""On top of the longest a call can take: time for the dead letters and retries that follow from it."""
_CLOSED: Final = "the handler is closed"
"""The end of uvloop's complaint when a peer's last bytes reach a TLS connection that we have closed. No call is lost:
aiohttp has given the connection up."""
_NO_VENDOR: Final = (
    f"is not set: an event whose record has no header {VENDOR_HEADER} becomes a dead letter, which is no fault of its "
    "producer"
)


class WallClock:
    """The system's clock."""

    def now_ms(self) -> int:
        """Epoch milliseconds."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker, for whoever started it."""

    ledger: Ledger
    attempts: KafkaLog
    stop: Callable[[], None]
    """Drain and end. May be called more than once."""
    http_port: int
    """Where metrics and health are served."""


def open_keyring(settings: Settings, environ: Mapping[str, str]) -> Keyring | None:
    """The keyring of the settings, if they name one; raises `registry.UsageError` when it cannot be read."""
    secrets = settings.secrets
    endpoint_url = secrets.kms_endpoint_url
    if secrets.keyring is None:
        return None
    return Keyring.open(secrets.keyring, environ, lambda arn: KmsKey(arn, endpoint_url=endpoint_url))


def document_parser(
    settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True
) -> Callable[[bytes], Parsed | tuple[Problem, ...]]:  # fmt: skip
    """How documents are read under these settings; raises `registry.UsageError` when there is no such keyring.

    ``decrypt``: whether sealed secrets are opened; who does not ask for that needs no keyring, and can sign nothing.
    """
    keyring = open_keyring(settings, environ) if decrypt else None
    unseal = leave_sealed if not decrypt else unseal_without_keyring if keyring is None else keyring.unseal
    return partial(
        parse_document, environ=environ, default_max_in_flight=settings.delivery.max_in_flight, unseal=unseal
    )


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[DocumentStore]:
    """Where the settings keep documents, to change them."""
    if not settings.registry.topic:
        yield FolderStore(settings.registry.path)
        return
    options, topic = kafka_options(settings), settings.topics.destinations
    await in_daemon_thread(check_topics, options, topics_named(settings, topic))
    async with (
        TopicDocuments.open(options, topic, fetch_wait_ms=ASKED_OFTEN_MS) as documents,
        KafkaPublisher.open(options) as publisher,
    ):
        yield TopicStore(documents, publisher, topic)


@asynccontextmanager
async def open_registry(
    settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True
) -> AsyncIterator[tuple[Catalog, RegistryWatcher]]:
    """The destinations of the settings' folder or topic: a catalog, empty yet, and who fills it and keeps it."""
    parse_content = document_parser(settings, environ, decrypt=decrypt)

    def parse(name: str, content: bytes) -> Parsed | tuple[Problem, ...]:
        parsed = parse_content(content)
        if settings.registry.topic and isinstance(parsed, Parsed) and parsed.destination.id != name:
            return (Problem("id", f"is not the record's key ({name})"),)
        return parsed

    catalog = Catalog(parse)
    if settings.registry.topic:
        async with TopicDocuments.open(kafka_options(settings), settings.topics.destinations) as documents:
            yield catalog, RegistryWatcher(catalog, documents)
    else:
        yield catalog, RegistryWatcher(catalog, Folder(settings.registry.path))


async def load_registry(
    settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True
) -> tuple[Catalog, list[Signal]]:
    """Every destination there is now, and the signals about their documents; ``decrypt`` as for `document_parser`."""
    signals: list[Signal] = []
    async with open_registry(settings, environ, decrypt=decrypt) as (catalog, updater):
        await updater.load(lambda signal: signals.append(signal))  # noqa: PLW0108 - append names its parameter otherwise
    return catalog, signals


async def run_worker(
    settings: Settings,
    directory: Directory,
    log: Logger,
    *,
    updater: DirectoryUpdater | None = None,
    name: str = "pushrail-stream",
    observers: Sequence[Observer] = (),
    started: Callable[[Worker], None] = lambda _worker: None,
) -> Ledger:
    """Consume and deliver until ``Worker.stop`` is called; the final ledger.

    ``updater`` fills ``directory`` before anything is consumed, and keeps it up to date.

    Raises `OperatorError` when Kafka cannot be reached at the start, a topic is missing or Kafka refuses us for good.
    """
    options = kafka_options(settings, name)
    caveats = await in_daemon_thread(check_topics, options, worker_topics(settings))
    async with AsyncExitStack() as world:
        bus = await world.enter_async_context(EventBridge.open(eventbridge_options(settings)))
        publisher = await world.enter_async_context(KafkaPublisher.open(options))
        attempts = await world.enter_async_context(_attempts_log(options, settings.topics.attempts, log))
        ends = await world.enter_async_context(Watermarks.open(options))
        identities = TopicIdentities(options)
        state = WorkerStats(now_ms=WallClock().now_ms, attempts_lost=lambda: attempts.lost)
        state.has_destination = lambda destination_id: directory.get(destination_id) is not None
        metrics = Metrics(state, settings.topics.retry, settings.metrics.max_destinations)
        readiness = Readiness([options.events().group_id, options.retries().group_id], state)
        recent = RecentIncidents(state.now_ms)
        status = WorkerStatus(name, state, readiness.reasons, lambda: metrics.dead_letters, recent.newest_first)
        tracing = [await world.enter_async_context(open_tracing(name, log))] if settings.tracing.enabled else []
        seeing: list[Observer] = [LogObserver(log), AttemptsLog(attempts), metrics, readiness, recent, *observers]
        traced = FanOut(tracing, log) if tracing else None
        observe = OpenFiles(FanOut([*seeing, *tracing], log), _open_files(), settings.delivery.max_in_flight)
        for caveat in (*caveats, *([SettingCaveat("vendor", _NO_VENDOR)] if settings.vendor is None else [])):
            observe(caveat)
        http_port = await world.enter_async_context(
            serve_ops(
                settings.http.host,
                settings.http.port,
                exposition=metrics.exposition,
                unready=readiness.reasons,
                page=lambda: status_page(status),
            )
        )
        if updater is not None:
            await updater.load(observe)
        readiness.loaded()
        with without_group():
            async with asyncio.TaskGroup() as tasks:
                ports = _Ports(
                    options, directory, bus, publisher, attempts, ends, identities, state, readiness, observe, traced,
                    http_port, updater,
                )  # fmt: skip
                keeping = [tasks.create_task(ends.keep(lambda: _partitions(state)))]
                keeping.append(tasks.create_task(identities.keep((settings.topics.events, *settings.topics.retry))))
                try:
                    return await _run_graph(settings, ports, tasks, started)
                finally:
                    for task in keeping:
                        task.cancel()


@asynccontextmanager
async def _attempts_log(options: KafkaOptions, topic: str, log: Logger) -> AsyncIterator[KafkaLog]:
    async with KafkaLog.open(options, topic) as attempts:
        yield attempts
    if attempts.lost:
        log.warning("attempts_lost", records=attempts.lost)


def _partitions(state: WorkerStats) -> list[Partition]:
    return [view.partition for views in state.partitions().values() for view in views]


class _Ports(NamedTuple):
    """The world, opened."""

    options: KafkaOptions
    directory: Directory
    bus: EventBridge
    publisher: KafkaPublisher
    attempts: KafkaLog
    ends: Watermarks
    identities: TopicIdentities
    state: WorkerStats
    readiness: Readiness
    observe: Observer
    traced: Observer | None
    """Told of every event that is consumed."""
    http_port: int
    updater: DirectoryUpdater | None


async def _run_graph(
    settings: Settings, ports: _Ports, tasks: asyncio.TaskGroup, started: Callable[[Worker], None]
) -> Ledger:
    (
        options, directory, bus, publisher, attempts, ends, identities, state, readiness, observe, traced, http_port,
        updater,
    ) = ports  # fmt: skip
    clock = WallClock()
    engine = Engine.build(
        Ports(bus, directory, publisher, clock, random.random, observe, consumed=traced), policy_of(settings), tasks
    )
    drain = drain_secs(settings)
    consumers = [
        KafkaConsumer(member, topics, assignment, observe, identities=identities, drain_secs=drain)
        for member, topics, assignment in (
            (options.events(), [settings.topics.events], engine.events),
            (options.retries(), list(settings.topics.retry), engine.retries),
        )
    ]
    fail_loudly(tasks)

    def stop() -> None:
        readiness.stop()
        for consumer in consumers:
            consumer.stop()

    state.ledger, state.missing_buses = engine.ledger, engine.bus_monitor.missing_buses
    state.dispatcher_stats, state.lanes = engine.dispatcher.dispatcher_stats, engine.dispatcher.destination_stats
    state.partitions = engine.partition_stats
    state.lag, state.sign_ins = ends.lag, lambda: bus.sign_ins
    state.attempts_backlog = lambda: attempts.backlog
    state.poll_ages = lambda: {
        name: consumer.poll_age_secs for name, consumer in zip(("events", "retries"), consumers, strict=True)
    }
    state.kafka = lambda: {
        "events": consumers[0].statistics,
        "retries": consumers[1].statistics,
        "copies": publisher.statistics,
        "attempts": attempts.statistics,
    }

    unread = UnreadPartitions(state, observe, _SkipOrders(options, settings.topics.replays), engine.step_over)
    state.unread_secs = lambda: unread.secs
    keeping = [tasks.create_task(unread.keep())]
    if updater is not None:
        keeping.append(tasks.create_task(updater.follow(_follow_documents(observe, engine))))
    started(Worker(engine.ledger, attempts, stop, http_port))
    try:
        async with asyncio.TaskGroup() as members:
            for consumer in consumers:
                members.create_task(consumer.run())
    finally:
        for task in keeping:
            task.cancel()
        engine.stop()
    return engine.ledger


def _follow_documents(observe: Observer, engine: Engine) -> Observer:
    """Tell the pipeline which documents have changed, before the observers are told."""

    def told(signal: Signal) -> None:
        if isinstance(signal, RegistryChanged):
            engine.documents_changed((*signal.put, *signal.removed))
        observe(signal)

    return told


@final
class _SkipOrders:
    """Implements `ports.SkipOrders`: reads the topic of replays when a partition stands still, and only then."""

    def __init__(self, options: KafkaOptions, topic: str) -> None:
        self._options = options
        self._topic = topic

    async def at(self, partition: Partition, position: int) -> SkipOrder | None:
        """The order for a worker that cannot read on at ``position``, if there is one. Raises `OperatorError`."""
        marks = await in_daemon_thread(ReplayJournal.read, self._options, self._topic)
        same = await in_daemon_thread(topic_id, self._options, partition.topic)
        found = find_skip(marks, partition, position, same)
        return None if found is None else SkipOrder(found.end, found.reason)


def fail_loudly(tasks: asyncio.TaskGroup) -> None:
    """End the worker when a callback of the loop raises: asyncio would only log it, and a lane would stand still."""

    async def fail(error: BaseException) -> None:
        raise error

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and "handle" in context:
            tasks.create_task(fail(error))
        elif not (isinstance(error, RuntimeError) and str(error).endswith(_CLOSED)):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)


def _open_files() -> int | None:
    """The files that this process may open, or None for no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def drain_secs(settings: Settings) -> float:
    """How long a revoke or a stop waits for what is in flight: as long as one call can take, and a margin."""
    eventbridge = settings.eventbridge
    return eventbridge.connect_timeout_secs + eventbridge.read_timeout_secs + _DRAIN_MARGIN_SECS


def eventbridge_options(settings: Settings) -> EventBridgeOptions:
    """How to reach AWS, from the settings."""
    return EventBridgeOptions(
        endpoint_url=settings.eventbridge.endpoint_url,
        connect_timeout_secs=settings.eventbridge.connect_timeout_secs,
        read_timeout_secs=settings.eventbridge.read_timeout_secs,
        sts_endpoint_url=settings.sts.endpoint_url,
        sts_region=settings.sts.region,
        sts_session_policy=settings.sts.session_policy,
        sts_max_calls_per_second=settings.sts.max_calls_per_second,
    )


def policy_of(settings: Settings) -> Policy:
    """The settings' choices for the pipeline."""
    delivery, limits, flood = settings.delivery, settings.limits, settings.flood_guard
    tiers = tuple(Tier(topic, secs) for topic, secs in settings.topics.retry.items())
    buffer = BufferLimits(limits.max_buffered_events, limits.max_buffered_mib * 2**20)
    min_dead = flood.min_dead_letters if flood.enabled else sys.maxsize
    return Policy(
        vendor=settings.vendor,
        dead_letter_unrouted=delivery.unrouted == "dlq",
        dlq=settings.topics.dlq,
        lanes=LaneLimits(
            delivery.max_entries, delivery.max_request_bytes, delivery.flush_ms / 1000, delivery.hold_secs
        ),
        retry=RetryPolicy(delivery.backoff_base_secs, delivery.backoff_cap_secs, delivery.max_age_secs, tiers),
        event_buffer=buffer.part(1 - _RETRY_SHARE),
        retry_buffer=buffer.part(_RETRY_SHARE),
        flood=FloodLimits(flood.window_secs, min_dead, flood.share, flood.min_customers),
    )
