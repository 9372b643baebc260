"""The play: everybody set up, events produced while the real worker runs, then everybody's figures compared."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.logging import open_log
from pushrail_stream.registry import Catalog
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.demo.accounts import Accounts, set_up
from pushrail_stream.sandbox.demo.aws import StandIn, asking, isolated_environment, use_as_own
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, VENDOR, Customer
from pushrail_stream.sandbox.demo.events import Planned, plan_events
from pushrail_stream.sandbox.demo.inboxes import read_inboxes
from pushrail_stream.sandbox.demo.records import Vendor, read_dead_letters, read_offsets
from pushrail_stream.sandbox.demo.report import Findings, Report, make_report
from pushrail_stream.sandbox.demo.steps import Steps
from pushrail_stream.sandbox.demo.tally import Delivery, Tally
from pushrail_stream.sandbox.demo.world import create_topics, load_documents, write_documents, write_settings
from pushrail_stream.settings import Settings
from pushrail_stream.worker import Worker, run_worker

_JOIN_SECS: Final = 20.0
_LOOK_SECS: Final = 0.005
_LAST_LINES: Final = 10
_WINDOW: Final = 100
"""Deliveries in flight at once: the vendor produces as fast as the stand-in for AWS keeps up, so that the latency
shown is the worker's and not that of a queue before it."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything around the worker."""

    folder: Path
    broker: EmbeddedBroker
    stand_in: StandIn
    settings: Settings
    directory: Catalog
    accounts: Accounts
    variables: Mapping[str, str]
    """The environment another process needs to be us."""


@dataclass(frozen=True, slots=True)
class Play:
    """What is to be played."""

    events: int = 3_000
    deadline_secs: float = 40.0
    """For producing and delivering."""
    customers: Sequence[Customer] = CUSTOMERS


@asynccontextmanager
async def open_world(customers: Sequence[Customer], steps: Steps) -> AsyncIterator[World]:
    """Set everybody up; all of it is gone when the block ends. Raises `OperatorError` when something does not start."""
    with (
        isolated_environment(),
        tempfile.TemporaryDirectory(prefix="pushrail-sandbox-") as name,
        EmbeddedBroker() as broker,
    ):
        folder = Path(name)
        async with StandIn.start(folder / "aws.log") as stand_in:
            steps.say(
                f"          AWS is moto at {stand_in.url}, Kafka is librdkafka's own at {broker.bootstrap_servers}"
            )
            settings = write_settings(folder, broker.bootstrap_servers, stand_in.url)
            create_topics(broker, settings)
            with steps.step(
                f"{len(customers)} customers' AWS accounts: bus, role with external ID, rule by tenant, queue"
            ):
                with asking():
                    accounts = await asyncio.to_thread(set_up, stand_in, customers)
                variables = use_as_own(accounts.own)
                stand_in.enforce_iam(True)
            write_documents(settings.registry.path, customers)
            directory = load_documents(settings.registry.path, settings)
            yield World(folder, broker, stand_in, settings, directory, accounts, variables)


async def play(world: World, script: Play, steps: Steps) -> Report:
    """Produce, deliver, stop, count. Raises `OperatorError` when Kafka or the stand-in gives up."""
    plan = plan_events(script.events, script.customers)
    tally, vendor = Tally(), Vendor(world.broker.bootstrap_servers, world.settings.topics.events)
    began = time.monotonic()
    with (world.folder / "worker.log").open("w", encoding="utf-8") as stream:
        log = open_log("info", stream=stream)
        workers: list[Worker] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(
                    run_worker(world.settings, world.directory, log, observers=[tally], started=workers.append)
                )
                began, ended, problems = await _drive(world, script, plan, vendor, tally, steps)
                workers[0].stop()
        except BaseExceptionGroup as group:
            raise _reason(group) from group
    findings = await asyncio.to_thread(_look, world, script, vendor, tally, work.result(), ended - began, steps)
    report = make_report(findings, problems)
    if not report.ok:
        _show_logs(world.folder, steps)
    return report


async def _drive(
    world: World, script: Play, plan: Sequence[Planned], vendor: Vendor, tally: Tally, steps: Steps
) -> tuple[float, float, list[str]]:
    """Produce while the worker delivers: when it began, when it ended, and what is wrong."""
    with steps.step("the worker has joined its consumer group"):
        try:
            await asyncio.wait_for(tally.assigned.wait(), _JOIN_SECS)
        except TimeoutError:
            raise OperatorError(f"the worker got no partitions within {_JOIN_SECS:g} s") from None
    began, problems = time.monotonic(), list[str]()
    with steps.bar(f"{len(plan)} records produced and delivered", len(plan)) as show:
        try:
            async with asyncio.timeout(script.deadline_secs):
                await _produce(world, plan, vendor, tally, show)
        except TimeoutError:
            problems.append(f"{tally.waiting} deliveries have no end after {script.deadline_secs:g} s")
    ended = time.monotonic()
    await asyncio.to_thread(vendor.flush)
    return began, ended, problems


async def _produce(
    world: World, plan: Sequence[Planned], vendor: Vendor, tally: Tally, show: Callable[[int], None]
) -> None:
    """Return when every delivery has an end."""
    for number, planned in enumerate(plan):
        while tally.waiting >= _WINDOW:
            show(max(0, number - tally.waiting))
            await _pause(world)
        if planned.customer is None:
            tally.expect_broken()
        else:
            places = [destination.id for destination in world.directory.route(VENDOR, planned.customer)]
            tally.expect(Delivery(place, planned.key) for place in places or [planned.customer])
        vendor.send(planned)
    await asyncio.to_thread(vendor.flush)
    while tally.waiting:
        show(len(plan) - tally.waiting)
        await _pause(world)


async def _pause(world: World) -> None:
    """Let the worker work. Raises `OperatorError` when there is no AWS left to deliver to."""
    if world.stand_in.exit_code is not None:
        raise OperatorError(f"the stand-in for AWS ended with exit code {world.stand_in.exit_code}")
    await asyncio.sleep(_LOOK_SECS)


def _look(
    world: World, script: Play, vendor: Vendor, tally: Tally, ledger: Ledger, delivering_secs: float, steps: Steps
) -> Findings:
    """Ask everybody else what they saw. Runs in a thread: plain clients wait."""
    bootstrap, topics = world.broker.bootstrap_servers, world.settings.topics
    with steps.step("the customers' queues read"), asking():
        received = read_inboxes(world.stand_in, world.accounts.inboxes.values())
    with steps.step("the dead letters and the committed offsets read"):
        dead_records = read_dead_letters(bootstrap, topics.dlq)
        offsets = read_offsets(bootstrap, topics.events, world.settings.kafka.group_id)
    return Findings(script.customers, vendor.produced, tally, ledger, received, dead_records, offsets, delivering_secs)


def _show_logs(folder: Path, steps: Steps) -> None:
    """The last words of those who write logs."""
    for name in ("worker.log", "aws.log"):
        for line in (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]:
            steps.say(f"{name}: {line}")


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The sentence for people, when that is all there is; else the group itself."""
    failed, rest = group.split(OperatorError)
    error: BaseException = group if failed is None or rest is not None else failed
    while isinstance(error, BaseExceptionGroup) and error is not group:
        error = error.exceptions[0]
    return error
