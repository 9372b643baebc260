from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.simulation.event_loop import SimLoop
from tests.simulation.scheduler import START_SECS, Scheduler


def test_time_passes_for_code_that_is_a_rounding_error_too_early() -> None:
    scheduler = Scheduler()
    host = scheduler.host("one")
    turns = list[float]()

    async def wait_for_a_later_time() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while loop.time() <= due:
            turns.append(loop.time())
            await asyncio.sleep(0)

    def run() -> None:
        loop = SimLoop(host)
        loop.run_until_complete(wait_for_a_later_time())
        loop.close()

    host.start(run)
    scheduler.run(START_SECS + 1.0)
    assert turns[0] == turns[-1] == START_SECS
    assert len(host.threads) == 0


def test_sets_of_futures_and_tasks_have_the_order_of_their_creation() -> None:
    scheduler = Scheduler()
    host = scheduler.host("one")

    async def make() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(100)]
        tasks = [loop.create_task(asyncio.sleep(0), name="sleep") for _ in range(100)]
        assert list(set(futures)) == futures
        assert list(set(tasks)) == tasks
        await asyncio.wait(tasks)

    def run() -> None:
        loop = SimLoop(host)
        loop.run_until_complete(make())
        loop.close()

    host.start(run)
    scheduler.run(START_SECS + 1.0)
    assert len(host.threads) == 0


def test_a_host_may_be_killed_while_its_loop_closes_generators() -> None:
    scheduler = Scheduler()
    host = scheduler.host("one")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(10)

    async def run_loop() -> None:
        generator = numbers()
        await anext(generator)
        await asyncio.get_running_loop().shutdown_asyncgens()

    def run() -> None:
        loop = SimLoop(host)
        host.after_end.append(loop.close)
        loop.run_until_complete(run_loop())

    host.start(run)
    scheduler.run(START_SECS + 1.0)
    assert len(host.threads) == 1
    host.kill()
    assert len(host.threads) == 0
