"""One run of the demo: events are produced while the real worker delivers them, then the results are compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.signals import PartitionsAssigned, Signal
from pushrail_stream.errors import OperatorError, without_group
from pushrail_stream.observe.logging import open_log
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, VENDOR
from pushrail_stream.sandbox.demo.events import Planned, plan_events
from pushrail_stream.sandbox.demo.observations import observe
from pushrail_stream.sandbox.demo.producer import VendorProducer
from pushrail_stream.sandbox.demo.report import Report, make_report
from pushrail_stream.sandbox.demo.world import World
from pushrail_stream.worker import Worker, run_worker

_JOIN_SECS: Final = 20.0
_POLL_SECS: Final = 0.005
_LAST_LINES: Final = 10
"""Lines of the worker's log that are shown when the figures do not add up."""
_IN_FLIGHT: Final = 100
"""Deliveries in flight at once: events are produced as fast as they are delivered, so that the latency shown is the
worker's and not that of a queue before it."""


async def run_demo(world: World, events: int, deadline_secs: float, progress: Progress) -> Report:
    """Produce, deliver, stop and compare. Raises `OperatorError` when Kafka does not answer."""
    plan = plan_events(events, CUSTOMERS)
    producer = VendorProducer(world.broker.bootstrap_servers, world.settings.topics.events)
    log_file = world.folder / "worker.log"
    workers: list[Worker] = []
    assigned = asyncio.Event()

    def note_assignment(signal: Signal) -> None:
        if isinstance(signal, PartitionsAssigned):
            assigned.set()

    with log_file.open("w", encoding="utf-8") as stream, without_group():
        log = open_log("info", stream=stream)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(
                run_worker(world.settings, world.catalog, log, observers=[note_assignment], started=workers.append)
            )
            with _step(progress, "the worker has joined its consumer group"):
                await _joined(assigned)
            began = time.monotonic()
            with _step(progress, f"{len(plan)} records produced and delivered"):
                problems = await _deliver(world, plan, producer, workers[0].ledger, deadline_secs, progress)
            delivering_secs = time.monotonic() - began
            workers[0].stop()
    with _step(progress, "the arrived events, the attempts, the dead letters and the committed offsets read"):
        # In a thread: these Kafka clients block.
        seen = await asyncio.to_thread(observe, world, producer.produced, work.result(), delivering_secs, progress)
    report = make_report(seen, problems)
    if not report.ok:
        for line in log_file.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:]:
            progress.note(f"worker.log: {line}")
    return report


@contextmanager
def _step(progress: Progress, text: str) -> Iterator[None]:
    """One step; its line appears when it is done, with the time that it took."""
    began = time.monotonic()
    yield
    progress.note(f"{time.monotonic() - began:6.1f} s  {text}")


async def _joined(assigned: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(assigned.wait(), _JOIN_SECS)
    except TimeoutError:
        raise OperatorError(f"the worker got no partitions within {_JOIN_SECS:g} s") from None


async def _deliver(
    world: World,
    plan: Sequence[Planned],
    producer: VendorProducer,
    ledger: Ledger,
    deadline_secs: float,
    progress: Progress,
) -> list[str]:
    """Produce the plan and wait until the worker has settled every delivery. Return the problems."""
    deliveries = [_deliveries(world, planned) for planned in plan]
    expected = 0

    async def settle(left: int) -> None:
        """Wait until at most ``left`` deliveries have no end."""
        while _without_end(ledger, expected) > left:
            progress.at(expected - _without_end(ledger, expected), sum(deliveries))
            await asyncio.sleep(_POLL_SECS)

    progress.begin("deliveries")
    problems: list[str] = []
    try:
        async with asyncio.timeout(deadline_secs):
            for planned, number in zip(plan, deliveries, strict=True):
                await settle(_IN_FLIGHT - 1)
                producer.send(planned)
                expected += number
            await asyncio.to_thread(producer.flush)
            await settle(0)
    except TimeoutError:
        problems.append(f"{_without_end(ledger, expected)} deliveries have no end after {deadline_secs:g} s")
    await asyncio.to_thread(producer.flush)
    return problems


def _deliveries(world: World, planned: Planned) -> int:
    """The number that the worker's ledger counts for a record: one where there is no destination."""
    return 1 if planned.customer is None else max(1, len(world.catalog.route(VENDOR, planned.customer)))


def _without_end(ledger: Ledger, expected: int) -> int:
    """The number of expected deliveries that have no end. Those of another producer's events count while in flight."""
    return max(expected - ledger.delivered - ledger.dead_lettered - ledger.skipped, ledger.in_flight)
