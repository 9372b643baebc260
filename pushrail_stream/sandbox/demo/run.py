"""One run of the demo: events are produced while the real worker delivers them, then the results are compared."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.logging import open_log
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, VENDOR, Customer, Target
from pushrail_stream.sandbox.demo.events import Planned, plan_events
from pushrail_stream.sandbox.demo.kafka import VendorProducer, read_kafka
from pushrail_stream.sandbox.demo.report import Arrived, Observations, Report, make_report
from pushrail_stream.sandbox.demo.tally import Delivery, Tally
from pushrail_stream.sandbox.demo.world import World
from pushrail_stream.worker import Worker, run_worker

_JOIN_SECS: Final = 20.0
_POLL_SECS: Final = 0.005
_LAST_LINES: Final = 10
"""Lines of the worker's log that are shown when the figures do not add up."""
_IN_FLIGHT: Final = 100
"""Deliveries in flight at once: events are produced as fast as they are delivered, so that the latency shown is the
worker's and not that of a queue before it."""


@final
class Steps:
    """The progress of a run, on stderr: one line for each step with the time it took."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step; its line appears when it is done."""
        with self._timed(text), self._console.status(text) if self._console.is_terminal else nullcontext():
            yield

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A step that shows how many of ``total`` are done."""
        columns = TextColumn("          {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        is_hidden = not self._console.is_terminal
        with (
            self._timed(text),
            Progress(*columns, console=self._console, transient=True, disable=is_hidden) as progress,
        ):
            task = progress.add_task(text, total=total)
            yield lambda done: progress.update(task, completed=done)

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line)

    @contextmanager
    def _timed(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.say(f"{time.monotonic() - began:6.1f} s  {text}")


async def run_demo(world: World, events: int, deadline_secs: float, steps: Steps) -> Report:
    """Produce, deliver, stop and compare. Raises `OperatorError` when Kafka does not answer."""
    plan = plan_events(events, CUSTOMERS)
    tally, producer = Tally(), VendorProducer(world.broker.bootstrap_servers, world.settings.topics.events)
    with (world.folder / "worker.log").open("w", encoding="utf-8") as stream:
        log = open_log("info", stream=stream)
        workers: list[Worker] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(
                    run_worker(world.settings, world.catalog, log, observers=[tally], started=workers.append)
                )
                with steps.step("the worker has joined its consumer group"):
                    await _joined(tally)
                began = time.monotonic()
                with steps.bar(f"{len(plan)} records produced and delivered", len(plan)) as show:
                    problems = await _deliver(world, plan, producer, tally, show, deadline_secs)
                delivering_secs = time.monotonic() - began
                workers[0].stop()
        except BaseExceptionGroup as group:
            raise _reason(group) from group
    observations = await _observe(world, producer, tally, work.result(), delivering_secs, steps)
    report = make_report(observations, problems)
    if not report.ok:
        lines = (world.folder / "worker.log").read_text(encoding="utf-8").splitlines()
        for line in lines[-_LAST_LINES:]:
            steps.say(f"worker.log: {line}")
    return report


async def keep_running(world: World, log_level: str, announce: Callable[[], None]) -> None:
    """Consume until SIGINT or SIGTERM; ``announce`` is called once the worker runs. The log goes to stderr."""

    def started(worker: Worker) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        announce()

    await run_worker(world.settings, world.catalog, open_log(log_level), started=started)


async def _joined(tally: Tally) -> None:
    try:
        await asyncio.wait_for(tally.assigned.wait(), _JOIN_SECS)
    except TimeoutError:
        raise OperatorError(f"the worker got no partitions within {_JOIN_SECS:g} s") from None


async def _deliver(
    world: World,
    plan: Sequence[Planned],
    producer: VendorProducer,
    tally: Tally,
    show: Callable[[int], None],
    deadline_secs: float,
) -> list[str]:
    """Produce the plan and wait until every delivery has an end. Return the problems."""
    problems: list[str] = []
    try:
        async with asyncio.timeout(deadline_secs):
            await _produce(world, plan, producer, tally, show)
            while tally.waiting:
                show(len(plan) - tally.waiting)
                await asyncio.sleep(_POLL_SECS)
    except TimeoutError:
        problems.append(f"{tally.waiting} deliveries have no end after {deadline_secs:g} s")
    await asyncio.to_thread(producer.flush)
    return problems


async def _produce(
    world: World, plan: Sequence[Planned], producer: VendorProducer, tally: Tally, show: Callable[[int], None]
) -> None:
    for number, planned in enumerate(plan):
        while tally.waiting >= _IN_FLIGHT:
            show(max(0, number - tally.waiting))
            await asyncio.sleep(_POLL_SECS)
        if planned.customer is None:
            tally.expect_undecodable()
        else:
            places = [destination.id for destination in world.catalog.route(VENDOR, planned.customer)]
            tally.expect(Delivery(place, planned.key) for place in places or [planned.customer])
        producer.send(planned)
    await asyncio.to_thread(producer.flush)


async def _observe(
    world: World, producer: VendorProducer, tally: Tally, ledger: Ledger, delivering_secs: float, steps: Steps
) -> Observations:
    """Collect the facts that each party saw."""
    with steps.step("the customers' queues read"):
        arrived = {
            target.id: _read_queues(world, customer, target) for customer in CUSTOMERS for target in customer.targets
        }
    with steps.step("the dead letters and the committed offsets read"):
        # In a thread: these Kafka clients block.
        kafka = await asyncio.to_thread(
            read_kafka, world.broker.bootstrap_servers, world.settings.topics, world.settings.kafka.group_id, producer
        )
    return Observations(CUSTOMERS, kafka, tally, ledger, arrived, delivering_secs)


def _read_queues(world: World, customer: Customer, target: Target) -> Arrived:
    return {
        rule: [json.loads(body) for body in world.bus.take_messages(customer.queue_arn(target, rule))]
        for rule in customer.onboarding(target).rules()
    }


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the operator's error where the group holds nothing else, otherwise the group itself."""
    expected, rest = group.split(OperatorError)
    error: BaseException = group if expected is None or rest is not None else expected
    while isinstance(error, BaseExceptionGroup) and error is not group:
        error = error.exceptions[0]
    return error
