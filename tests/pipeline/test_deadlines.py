from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import pytest

from pushrail_stream.pipeline.deadlines import Deadlines
from tests.support.virtual_time import in_virtual_time

FOREVER: Final = 1e6


async def result_of(deadlines: Deadlines, secs: float, within_secs: float) -> tuple[str, float]:
    """The end of work that takes ``secs``, and the seconds until then."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        ended = await deadlines.run(asyncio.sleep(secs, "done"), started + within_secs)
    except TimeoutError:
        ended = "cut off"
    return ended, round(loop.time() - started, 3)


@in_virtual_time
async def test_work_ends_by_itself_or_at_its_deadline() -> None:
    deadlines = Deadlines()
    async with asyncio.TaskGroup() as tasks:
        plans = [(1.0, 5.0), (FOREVER, 3.0), (FOREVER, 7.0), (6.0, 7.0), (FOREVER, 2.0)]
        work = [tasks.create_task(result_of(deadlines, *plan)) for plan in plans]
    assert [one.result() for one in work] == [
        ("done", 1.0), ("cut off", 3.0), ("cut off", 7.0), ("done", 6.0), ("cut off", 2.0),
    ]  # fmt: skip


@in_virtual_time
async def test_a_task_may_have_a_deadline_after_another() -> None:
    deadlines = Deadlines()
    assert await result_of(deadlines, FOREVER, 3.0) == ("cut off", 3.0)
    assert await result_of(deadlines, 1.0, 3.0) == ("done", 1.0)
    assert await result_of(deadlines, FOREVER, 5.0) == ("cut off", 5.0)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


@in_virtual_time
@pytest.mark.parametrize("error", [None, ValueError("broken")])
async def test_the_timers_cancellation_is_over_when_the_work_ends_otherwise(error: ValueError | None) -> None:
    """The next work of the task would not get its own time-out while the cancellation counts."""

    async def swallow() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(FOREVER)
        if error is not None:
            raise error
        return "done"

    deadlines = Deadlines()
    with contextlib.nullcontext() if error is None else pytest.raises(ValueError, match="broken"):
        assert await deadlines.run(swallow(), 3.0) == "done"
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    assert await result_of(deadlines, FOREVER, 5.0) == ("cut off", 5.0)


@in_virtual_time
async def test_the_failure_of_the_work_is_raised() -> None:
    async def fail() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await Deadlines().run(fail(), FOREVER)


@in_virtual_time
async def test_a_cancelled_task_is_not_told_of_a_deadline() -> None:
    deadlines = Deadlines()
    async with asyncio.TaskGroup() as tasks:
        before, amid = [tasks.create_task(result_of(deadlines, FOREVER, secs)) for secs in (9.0, 3.0)]
        await asyncio.sleep(1.0)
        before.cancel()
        await asyncio.sleep(1.999)
        asyncio.get_running_loop().call_later(0.001, amid.cancel)  # at its deadline
    assert before.cancelled()
    assert amid.cancelled()


@in_virtual_time
async def test_slow_work_is_cut_off_once() -> None:
    deadlines, cuts = Deadlines(), list[float]()

    async def linger() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            cuts.append(asyncio.get_running_loop().time())
            await asyncio.sleep(4.0)
            raise

    async def run() -> None:
        with pytest.raises(TimeoutError):
            await deadlines.run(linger(), asyncio.get_running_loop().time() + 2.0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        assert await result_of(deadlines, FOREVER, 3.0) == ("cut off", 3.0)
    assert len(cuts) == 1
