"""The worker: it builds an engine and its adapters from the settings, and runs until it is stopped."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, final

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.clock import SteadyClock
from pushrail_stream.core.commit import MIN_METADATA_CHARS
from pushrail_stream.core.event import VENDOR_HEADER
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import RegistryChanged, SettingCaveat, Signal
from pushrail_stream.core.skips import Skip, find_skip
from pushrail_stream.errors import OperatorError, without_group
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.identity_watch import OwnCredentialsWatch
from pushrail_stream.files import max_open_files
from pushrail_stream.kafka.catch_up_reader import CatchUpReader
from pushrail_stream.kafka.client_properties import events_consumer, retries_consumer
from pushrail_stream.kafka.consumer import KafkaConsumer
from pushrail_stream.kafka.expiring import expiring_records
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.kafka.lag import Watermarks
from pushrail_stream.kafka.metadata_limit import LIMIT_NAME, metadata_limit
from pushrail_stream.kafka.producer import KafkaLog, KafkaPublisher
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import read_marks
from pushrail_stream.kafka.scan import read_to_end
from pushrail_stream.kafka.snapshots import Snapshots
from pushrail_stream.kafka.topic_ids import TopicIdentities, topic_id
from pushrail_stream.kafka.topics import check_topics, topics_named, worker_topics
from pushrail_stream.observe.attempts import AttemptsLog
from pushrail_stream.observe.fan_out import FanOut, OpenFiles
from pushrail_stream.observe.fleet_member import FleetMember
from pushrail_stream.observe.incidents import RecentIncidents
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import Logger
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.observe.notice_keeper import NoticeKeeper
from pushrail_stream.observe.notices import HEADERS, Expiring, Notices
from pushrail_stream.observe.ops_server import serve_ops
from pushrail_stream.observe.readiness import Readiness
from pushrail_stream.observe.status_page import Display
from pushrail_stream.observe.tracing import open_tracing
from pushrail_stream.observe.webhook import Webhook
from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.engine import Engine
from pushrail_stream.pipeline.policy import Ports
from pushrail_stream.pipeline.retry_now import ReadTopic, RetryRun
from pushrail_stream.pipeline.stats import WorkerStats
from pushrail_stream.pipeline.unread_partitions import UnreadPartitions
from pushrail_stream.ports.pipeline import Directory, Observer
from pushrail_stream.registry.watcher import RegistryWatcher
from pushrail_stream.settings.model import KafkaSettings, Settings
from pushrail_stream.settings.policy import policy_of

_ANSWER_SECS: Final = 10.0
"""Longest time before a request is answered: half of the time for which commands wait. The work goes on after that."""
_DRAIN_MARGIN_SECS: Final = 2.0
"""Seconds after the longest call for the copies that follow from it."""
NOTICES_SECS: Final = 1.0
"""Longest wait, at the end, for notices that Kafka has not acknowledged, in seconds: it delays a stop."""
_EXPIRY_LEAD_SECS: Final = 86_400
"""Seconds before the end of dead letters at which a notice tells of it: a day, so that people can still replay them."""
_CLOSED: Final = "the handler is closed"
"""End of uvloop's error when a peer's last bytes reach a TLS connection that we have closed. No call is lost: the
connection is no longer used."""
_NO_CURSORS: Final = (
    "is {} at a broker: a commit cannot name the cursor of a destination that falls behind, so its events are copied "
    f"to the retry topics. Set it to at least {MIN_METADATA_CHARS}; Kafka's default is 4096"
)
_NO_VENDOR: Final = (
    f"is not set: an event whose record has no header {VENDOR_HEADER} becomes a dead letter, which is no fault of its "
    "producer"
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker."""

    id: str
    ledger: Ledger
    attempts: KafkaLog
    stop: Callable[[], None]
    """Drain and end. It may be called more than once."""
    http_port: int
    """Port of the metrics, the health checks and the status page."""


async def run_worker(
    settings: Settings,
    directory: Directory,
    log: Logger,
    *,
    updater: RegistryWatcher | None = None,
    name: str = "pushrail-stream",
    observers: Sequence[Observer] = (),
    started: Callable[[Worker], None] = lambda _worker: None,
) -> Ledger:
    """Consume and deliver until ``Worker.stop`` is called. ``updater`` fills ``directory`` and keeps it up to date.

    Returns the final ledger. Raises `OperatorError` when Kafka cannot be reached at first, lacks a topic or refuses us.
    """
    kafka = await in_daemon_thread(reached_kafka, settings, name)
    limit = await in_daemon_thread(metadata_limit, kafka)
    caveats = await _check(settings, kafka, limit)
    async with AsyncExitStack() as stack:
        clients = await _open_clients(settings, kafka, log, directory, stack)
        stats = _Statistics(clients, SteadyClock())
        identity = WorkerIdentity.new(name, kafka.group_id, stats.clock.now_ms())
        log = log.bind(worker_id=identity.id)
        link = await stack.enter_async_context(FleetTopics(kafka, settings.topics, identity.id))
        readiness = Readiness([events_consumer(kafka).group_id, retries_consumer(kafka).group_id], stats)
        metrics = Metrics(stats, settings.topics.retry, settings.metrics.max_destinations, directory.get)
        display = Display(identity, link, stats, readiness, metrics, RecentIncidents(stats.clock.now_ms))
        tracing = [await stack.enter_async_context(open_tracing(name, log))] if settings.tracing.enabled else []
        notices = Notices(clients.append_notice, kafka.group_id, identity.id, stats.clock.now_ms, directory.get)
        own: list[Observer] = [LogObserver(log), AttemptsLog(clients.attempts.append), notices, *display.observers]
        everyone = FanOut([*own, clients.own_credentials, *observers, *tracing], log)
        observe = OpenFiles(everyone, max_open_files(), settings.delivery.max_in_flight)
        for caveat in caveats:
            observe(caveat)
        ops = serve_ops(settings.http, exposition=metrics.exposition, unready=readiness.reasons, page=display.page)
        http_port = await stack.enter_async_context(ops)
        if updater is not None:
            await updater.load(observe)
        readiness.loaded()
        consumed = FanOut(tracing, log) if tracing else None
        ports = Ports(clients.bus, directory, clients.publisher, stats.clock, random.random, observe, consumed)
        stack.enter_context(without_group())
        async with asyncio.TaskGroup() as tasks:
            running = stats.running = _Running(settings, kafka, clients, ports, readiness, tasks)
            if limit is not None:
                running.engine.events.metadata.limit(limit)
            show_state = partial(display.record, f"{settings.http.host}:{http_port}")
            member = FleetMember(link, show_state, {"retry_now": running.retry_now}, stats.clock, observe)
            find_expiring = partial(_find_expiring, kafka, settings.topics.dlq, stats.clock)
            keeper = NoticeKeeper(notices, stats, settings.topics.events, find_expiring, observe)
            started(Worker(identity.id, running.engine.ledger, clients.attempts, running.stop, http_port))
            await running.run(updater, [member.keep(), keeper.keep(), clients.webhook.keep()])
        return running.engine.ledger


async def _check(settings: Settings, kafka: KafkaSettings, limit: int | None) -> list[Signal]:
    """Check the topics, and the limit of a commit's metadata. Returns what the operator should know."""
    caveats = list[Signal](await in_daemon_thread(check_topics, kafka, worker_topics(settings)))
    try:
        caveats += await in_daemon_thread(check_topics, kafka, topics_named(settings, settings.topics.notices))
    except OperatorError as error:
        caveats.append(SettingCaveat("topics.notices", f"{error}. Notices are lost until then"))
    if limit is not None and limit < MIN_METADATA_CHARS:
        caveats.append(SettingCaveat(LIMIT_NAME, _NO_CURSORS.format(limit)))
    if settings.vendor is None:
        caveats.append(SettingCaveat("vendor", _NO_VENDOR))
    return caveats


class _Clients(NamedTuple):
    """Open connections to AWS and Kafka."""

    bus: EventBridge
    publisher: KafkaPublisher
    attempts: KafkaLog
    notices: KafkaLog
    webhook: Webhook
    watermarks: Watermarks
    topic_ids: TopicIdentities
    own_credentials: OwnCredentialsWatch

    @property
    def notices_lost(self) -> int:
        """Notices that the topic or the webhook did not take."""
        return self.notices.lost + self.webhook.lost

    def append_notice(self, key: bytes, *values: bytes) -> None:
        """Write notices to the topic, and post them."""
        self.notices.append(key, *values)
        self.webhook.append(key, *values)


async def _open_clients(
    settings: Settings, kafka: KafkaSettings, log: Logger, directory: Directory, stack: AsyncExitStack
) -> _Clients:
    webhook = Webhook.of(settings.notices, os.environ, SteadyClock().now_ms)
    bus = await stack.enter_async_context(EventBridge.open(settings.eventbridge, settings.sts))
    own_credentials = OwnCredentialsWatch(bus.check_own_credentials, directory.get)
    bus.destinations = own_credentials.destinations
    topics = settings.topics
    notices = KafkaLog(kafka, topics.notices, headers=HEADERS, flush_secs=NOTICES_SECS)
    return _Clients(
        bus,
        await stack.enter_async_context(KafkaPublisher(kafka)),
        await stack.enter_async_context(_open_log(KafkaLog(kafka, topics.attempts), log, "attempts_lost")),
        await stack.enter_async_context(_open_log(notices, log, "notices_lost")),
        webhook,
        Watermarks(kafka),
        TopicIdentities(kafka),
        own_credentials,
    )


@asynccontextmanager
async def _open_log(kafka_log: KafkaLog, log: Logger, lost: str) -> AsyncIterator[KafkaLog]:
    """A log of Kafka, open until the end of the block; then a line named ``lost`` tells of records that it lost."""
    async with kafka_log:
        yield kafka_log
    if kafka_log.lost:
        log.warning(lost, records=kafka_log.lost)


async def _find_expiring(kafka: KafkaSettings, topic: str, clock: SteadyClock) -> Expiring:
    """The dead letters that Kafka may remove within a day. Raises `OperatorError`."""
    now_ms, lead_ms = clock.now_ms(), _EXPIRY_LEAD_SECS * 1000
    return Expiring(topic, await in_daemon_thread(expiring_records, kafka, topic, now_ms, lead_ms), now_ms + lead_ms)


@final
class _Running:
    """The parts of a worker that run: the engine, its consumers, and the upkeep beside them."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaSettings,
        clients: _Clients,
        ports: Ports,
        readiness: Readiness,
        tasks: asyncio.TaskGroup,
    ) -> None:
        fail_loudly(tasks)
        self.engine = engine = Engine(ports, policy_of(settings), tasks)
        members = {
            "events": (events_consumer(kafka), [settings.topics.events], engine.events),
            "retries": (retries_consumer(kafka), list(settings.topics.retry), engine.retries),
        }
        snapshots = Snapshots(kafka, settings.topics.cursors, clients.publisher)
        self.consumers = {
            name: KafkaConsumer(
                member,
                topics,
                assignment,
                ports.observe,
                identities=clients.topic_ids,
                drain_secs=drain_secs(settings),
                snapshots=snapshots if assignment is engine.events else None,
            )
            for name, (member, topics, assignment) in members.items()
        }

        async def find_order(partition: Partition, position: int) -> Skip | None:
            marks = await in_daemon_thread(read_marks, kafka, settings.topics.replays)
            same_topic = await in_daemon_thread(topic_id, kafka, partition.topic)
            return find_skip(marks, partition, position, same_topic)

        lag = clients.watermarks.lag
        self.unread = UnreadPartitions(
            engine.partition_stats, lag, engine.step_over, engine.note_unread, find_order, ports.observe
        )
        self.catch_up = CatchUpReader(kafka, settings.topics.events, engine.catch_up, ports.observe, clients.topic_ids)
        self._clients = clients
        self._readiness = readiness
        self._topics = (settings.topics.events, *settings.topics.retry)
        self._observe = ports.observe
        self._tasks = tasks
        self._directory = ports.directory
        self._read_retries: ReadTopic = partial(read_to_end, kafka)
        self._retrying: dict[str, tuple[RetryRun, asyncio.Task[None]]] = {}
        """The last `retry now` of each destination."""

    async def run(self, updater: RegistryWatcher | None, others: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Consume until `stop`. ``others``: further upkeep."""
        clients = self._clients
        upkeep = [
            clients.watermarks.keep(self._partitions),
            clients.topic_ids.keep(self._topics),
            clients.own_credentials.keep(self._observe),
            self.unread.keep(),
            self.catch_up.run(),
            *others,
        ]
        if updater is not None:
            upkeep.append(updater.follow(self._follow_documents))
        keeping = [self._tasks.create_task(work) for work in upkeep]
        try:
            async with asyncio.TaskGroup() as members:
                for consumer in self.consumers.values():
                    members.create_task(consumer.run())
        finally:
            for task in (*keeping, *(work for _, work in self._retrying.values())):
                task.cancel()
            self.engine.stop()

    async def retry_now(self, arguments: Mapping[str, str]) -> Mapping[str, Any]:
        """Begin a destination's waiting retries now."""
        name = arguments.get("destination", "")
        destination = self._directory.get(name)
        if destination is None or destination.closed_as is not None:
            raise OperatorError(f"it is {destination.closed_as}" if destination else "there is no such destination")
        if name not in self._retrying or self._retrying[name][1].done():
            run = RetryRun(name)
            self._retrying[name] = run, self._tasks.create_task(self.engine.begin_retries(run, self._read_retries))
        run, work = self._retrying[name]
        await asyncio.wait([work], timeout=_ANSWER_SECS)
        return {"begun": run.begun, "kept": run.kept, "goesOn": not work.done(), "problem": run.problem}

    def stop(self) -> None:
        """Be ready no more, and let the consumers drain, commit and end."""
        self._readiness.stop()
        self.catch_up.stop()
        for consumer in self.consumers.values():
            consumer.stop()

    def _partitions(self) -> list[Partition]:
        return [one.partition for stats in self.engine.partition_stats().values() for one in stats]

    def _follow_documents(self, signal: Signal) -> None:
        """Tell the engine which documents have changed, before the observers are told."""
        if isinstance(signal, RegistryChanged):
            self.engine.dispatcher.documents_changed((*signal.put, *signal.removed))
        self._observe(signal)


@final
class _Statistics:
    """Takes the worker's statistics. Implements `pipeline.stats.StatsSource`."""

    def __init__(self, clients: _Clients, clock: SteadyClock) -> None:
        self.clock = clock
        self.running: _Running | None = None
        self._clients = clients

    def __call__(self, max_destinations: int = 0) -> WorkerStats:
        """The statistics of this moment, with at most this number of destinations."""
        clients, running, now_ms = self._clients, self.running, self.clock.now_ms()
        if running is None:
            return WorkerStats(now_ms=now_ms, attempts_lost=clients.attempts.lost, notices_lost=clients.notices_lost)
        stats, consumers, lag = running.engine.stats(max_destinations), running.consumers, clients.watermarks.lag
        return dataclasses.replace(
            stats,
            now_ms=now_ms,
            partitions={
                name: [one._replace(lag=lag(one.partition, one.committed)) for one in partitions]
                for name, partitions in stats.partitions.items()
            },
            unread_secs=running.unread.secs,
            poll_ages={name: consumer.poll_age_secs for name, consumer in consumers.items()},
            kafka={
                **{name: consumer.statistics for name, consumer in consumers.items()},
                "copies": clients.publisher.statistics,
                "attempts": clients.attempts.statistics,
            },
            sign_ins=clients.bus.sign_ins,
            own_problem=clients.own_credentials.problem,
            attempts_lost=clients.attempts.lost,
            attempts_backlog=clients.attempts.waiting,
            notices_lost=clients.notices_lost,
        )


def fail_loudly(tasks: asyncio.TaskGroup) -> None:
    """End the worker when a callback of the loop raises. Asyncio would only log it, and a lane would stand still.

    An error that comes when the tasks have ended is only logged.
    """

    async def fail(error: BaseException) -> None:
        raise error

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and "handle" in context:
            failure = fail(error)
            try:
                tasks.create_task(failure)
            except RuntimeError:  # the group has ended
                failure.close()
                loop.default_exception_handler(context)
        elif not (isinstance(error, RuntimeError) and str(error).endswith(_CLOSED)):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)


def drain_secs(settings: Settings) -> float:
    """Seconds for which a revocation or a stop waits for work in flight: the longest call, and a margin."""
    return settings.eventbridge.call_secs + _DRAIN_MARGIN_SECS
