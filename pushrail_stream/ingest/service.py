"""The composition root of ingest. It needs none of the parts that deliver events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.errors import without_group
from pushrail_stream.ingest.api_keys import ApiKeys
from pushrail_stream.ingest.app import IngestApp
from pushrail_stream.ingest.limits import IngestLimits
from pushrail_stream.ingest.metrics import IngestMetrics
from pushrail_stream.ingest.server import IngestReadiness, IngestServer
from pushrail_stream.kafka.event_producer import KafkaEventProducer
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.topics import check_topics, topics_named
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import Logger, forward_log
from pushrail_stream.observe.ops_server import serve_ops
from pushrail_stream.settings.model import Settings


@dataclass(frozen=True, slots=True)
class RunningIngest:
    """A running ingest, for its caller."""

    stop: Callable[[], None]
    """Answer the open requests, and end. May be called more than once."""
    port: int
    """Port for events."""
    http_port: int
    """Port for metrics and health."""


async def run_ingest(
    settings: Settings,
    log: Logger,
    *,
    started: Callable[[RunningIngest], None] = lambda _ingesting: None,
) -> None:
    """Take events in over HTTP until ``RunningIngest.stop`` is called.

    Raises `OperatorError` when Kafka cannot be reached at the start, a topic or the file of API keys is missing, an
    address cannot be used, or the Kafka producer can write nothing any more.
    """
    chosen = settings.ingest
    keys = ApiKeys(chosen.keys_file)
    options = await in_daemon_thread(reached_kafka, settings, "pushrail-stream-ingest")
    caveats = await in_daemon_thread(check_topics, options, topics_named(settings, settings.topics.events))
    async with AsyncExitStack() as world:
        producer = await world.enter_async_context(
            KafkaEventProducer.open(options, settings.topics.events, chosen.timeout_secs)
        )
        metrics, readiness = IngestMetrics(), IngestReadiness(producer)
        forward_log("uvicorn", log)
        observe = FanOut([LogObserver(log), metrics], log)
        for caveat in caveats:
            observe(caveat)
        ingest = IngestApp(producer, keys, IngestLimits.of(settings), observe)
        metrics.buffered_bytes, metrics.waiting = lambda: ingest.buffered_bytes, lambda: producer.waiting
        metrics.active_keys, metrics.kafka = lambda: keys.active, lambda: {"ingest": producer.statistics}
        http_port = await world.enter_async_context(
            serve_ops(settings.http, exposition=metrics.exposition, unready=readiness.reasons)
        )
        server = world.enter_context(
            IngestServer.open(ingest, chosen.host, chosen.port, timeout_secs=chosen.timeout_secs)
        )

        def stop() -> None:
            readiness.stop()
            server.stop()

        await readiness.look()
        started(RunningIngest(stop, server.port, http_port))
        await _serve(server, [keys.keep(observe), readiness.keep()])


async def _serve(server: IngestServer, upkeep: Sequence[Coroutine[None, None, None]]) -> None:
    """Answer requests until the server is stopped, and run the upkeep beside it."""
    with without_group():
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work) for work in upkeep]
            try:
                await server.run()
            finally:
                for task in running:
                    task.cancel()
