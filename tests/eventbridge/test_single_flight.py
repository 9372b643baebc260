from __future__ import annotations

import asyncio

import pytest

from pushrail_stream.eventbridge.single_flight import SingleFlight


class Work:
    """Counts its attempts. A test ends each of them."""

    def __init__(self) -> None:
        self.attempts = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.attempts += 1
        mine = self.attempts
        await self.go_on.wait()
        return mine


async def test_concurrent_callers_share_a_result() -> None:
    shared, work = SingleFlight[int](), Work()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(shared.run(work)) for _ in range(5)]
        await asyncio.sleep(0)
        assert shared.busy
        work.go_on.set()
    assert [task.result() for task in running] == [1] * 5
    assert not shared.busy


async def test_a_later_caller_gets_a_new_attempt() -> None:
    shared, work = SingleFlight[int](), Work()
    work.go_on.set()
    assert [await shared.run(work), await shared.run(work)] == [1, 2]


async def test_a_cancelled_caller_hands_over() -> None:
    shared, work = SingleFlight[int](), Work()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(shared.run(work))
        others = [tasks.create_task(shared.run(work)) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        work.go_on.set()
    assert [task.result() for task in others] == [2] * 3


async def test_a_bug_is_not_shared() -> None:
    shared = SingleFlight[int]()

    async def broken() -> int:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await shared.run(broken)
    assert not shared.busy


async def test_only_a_wanted_result_is_kept() -> None:
    shared = SingleFlight[int | str](keep=str)

    async def attempt(result: int | str) -> int | str:
        return result

    results = [await shared.run(lambda result=result: attempt(result)) for result in (1, 2, "opened", 3)]  # type: ignore[misc]
    assert results == [1, 2, "opened", "opened"]
