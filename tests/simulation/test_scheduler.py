from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import pytest

from pushrail_stream.blocking import in_daemon_thread
from tests.simulation.scheduler import Condition, Host, Scheduler
from tests.simulation.substitution import EPOCH, simulated


def nowhere(_host: Host, _factory: object, name: str, port: int) -> Any:
    raise ConnectionRefusedError(f"{name}:{port}")


def run(*functions: Callable[[], object], secs: float = 1_000.0, seed: int = 1) -> Scheduler:
    scheduler = Scheduler()
    with simulated(scheduler, seed, kafka=None, connect=nowhere):
        for number, function in enumerate(functions):
            scheduler.host(f"host-{number}").start(function)
        scheduler.run(scheduler.now + secs)
    return scheduler


def test_threads_take_turns_in_virtual_time() -> None:
    seen: list[tuple[str, float]] = []

    def sleeper(name: str, secs: float) -> Callable[[], None]:
        def work() -> None:
            for _ in range(2):
                time.sleep(secs)
                seen.append((name, time.monotonic() - 1_000))

        return work

    run(sleeper("a", 2), sleeper("b", 3))
    assert seen == [("a", 2), ("b", 3), ("a", 4), ("b", 6)]


def test_the_standard_library_waits_by_the_scheduler() -> None:
    seen: list[object] = []
    answer: Future[str] = Future()

    def finish(done: threading.Event) -> None:
        time.sleep(5)
        done.set()

    def waiter() -> None:
        done = threading.Event()
        threading.Thread(target=finish, args=(done,)).start()
        seen.append(done.wait(1))
        seen.append(done.wait(10))
        seen.append(time.monotonic())
        with pytest.raises(TimeoutError):
            Future[str]().result(2)
        seen.append(time.monotonic())

    run(waiter)
    assert seen == [False, True, 1_005, 1_007]
    assert not answer.done()


def test_a_loop_and_its_threads_share_virtual_time() -> None:
    seen: list[object] = []

    def block(secs: float) -> float:
        time.sleep(secs)
        return time.monotonic()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            one = tasks.create_task(in_daemon_thread(block, 4))
            await asyncio.sleep(1)
            seen.append(loop.time())
        seen.append(one.result())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await loop.run_in_executor(None, block, 9.0)
        seen.append(loop.time())

    run(lambda: asyncio.run(main()), lambda: asyncio.run(asyncio.sleep(2)))
    assert seen == [1_001, 1_004, 1_005]


def test_a_paused_host_goes_on_later_and_a_killed_one_never() -> None:
    ticks: list[tuple[str, float]] = []
    scheduler = Scheduler()

    def tick() -> None:
        while True:
            time.sleep(1)
            ticks.append((scheduler.running.host.name if scheduler.running else "", time.monotonic() - 1_000))

    cleaned: list[str] = []

    async def task() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            cleaned.append("closed")

    with simulated(scheduler, 1, kafka=None, connect=nowhere):
        a, b = scheduler.host("a"), scheduler.host("b")
        a.start(tick)
        b.start(tick)
        b.start(lambda: asyncio.run(task()))
        scheduler.call_later(1.5, a.pause)
        scheduler.call_later(2.5, b.kill)
        scheduler.call_later(4.2, a.resume)
        scheduler.run(scheduler.now + 6)
    assert ticks == [("a", 1), ("b", 1), ("b", 2), ("a", pytest.approx(4.2)), ("a", pytest.approx(5.2))]
    assert cleaned == ["closed"]
    assert not b.threads


def test_each_host_has_a_wall_clock() -> None:
    scheduler = Scheduler()
    seen: list[tuple[float, datetime]] = []

    def look() -> None:
        time.sleep(10)
        seen.append((time.time() - EPOCH, datetime.now(UTC)))  # noqa: TID251 - the subject

    with simulated(scheduler, 1, kafka=None, connect=nowhere):
        scheduler.host("right").start(look)
        wrong = scheduler.host("wrong")
        wrong.clock_offset = -300
        wrong.start(look)
        scheduler.run(scheduler.now + 20)
    assert [round(at, 3) for at, _ in seen] == [1_010, 710]
    assert (seen[0][1] - seen[1][1]).total_seconds() == 300


def test_one_seed_gives_the_same_random_values() -> None:
    def draw(seed: int) -> list[object]:
        drawn: list[object] = []
        run(lambda: drawn.extend((random.random(), uuid.uuid4(), secrets.token_hex(4))), seed=seed)
        return drawn

    assert draw(1) == draw(1)
    assert len({*map(str, draw(1)), *map(str, draw(2))}) == 6
    assert uuid.uuid4() != uuid.uuid4()


def test_a_condition_tells_notification_from_time() -> None:
    scheduler = Scheduler()
    condition = Condition(scheduler)
    seen: list[bool] = []

    def wait() -> None:
        seen.append(condition.wait(1))
        seen.append(condition.wait(5))

    with simulated(scheduler, 1, kafka=None, connect=nowhere):
        scheduler.host("a").start(wait)
        scheduler.call_later(3, condition.notify_all)
        assert scheduler.run_until(lambda: len(seen) == 2, 100)
    assert seen == [False, True]
    assert scheduler.now == 1_003


def test_an_error_in_a_thread_ends_the_run() -> None:
    def fail() -> None:
        time.sleep(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(fail)
    assert threading.Event().wait(0) is False
