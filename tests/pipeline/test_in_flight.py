"""Work in flight: a drain waits for revoked work, up to its deadline."""

from __future__ import annotations

import asyncio

import pytest

from pushrail_stream.pipeline.in_flight import InFlight
from tests.support.virtual_time import in_virtual_time, virtual_loop


async def work(secs: float, done: list[float]) -> None:
    await asyncio.sleep(secs)
    done.append(secs)


@in_virtual_time
async def test_a_drain_waits_for_revoked_work_only() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, done = InFlight(tasks), list[float]()
        in_flight.start(work(3, done), lambda: True)
        in_flight.start(work(5, done), lambda: False)
        assert len(in_flight) == 2
        await in_flight.drain(10)
        assert (done, virtual_loop().elapsed, len(in_flight)) == ([3], 3, 1)


@in_virtual_time
async def test_a_drain_ends_at_its_deadline() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, done = InFlight(tasks), list[float]()
        in_flight.start(work(30, done), lambda: True)
        await in_flight.drain(2)
        assert (done, virtual_loop().elapsed) == ([], 2)
        in_flight.cancel()
        await asyncio.sleep(0)
    assert (done, len(in_flight)) == ([], 0)


@in_virtual_time
async def test_a_drain_waits_for_work_that_work_started() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, done = InFlight(tasks), list[float]()

        async def first() -> None:
            await asyncio.sleep(1)
            in_flight.start(work(4, done), lambda: True)

        in_flight.start(first(), lambda: True)
        await in_flight.drain(10)
        assert (done, virtual_loop().elapsed) == ([4], 5)


@in_virtual_time
async def test_work_may_be_revoked_during_a_drain() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, done, revoked = InFlight(tasks), list[float](), asyncio.Event()
        in_flight.start(work(1, done), lambda: True)
        in_flight.start(work(3, done), revoked.is_set)
        asyncio.get_running_loop().call_later(0.5, revoked.set)
        await in_flight.drain(10)
        assert done == [1, 3]


@in_virtual_time
async def test_no_work_starts_in_an_ending_worker() -> None:
    in_flights = list[InFlight]()

    async def end_with_a_bug() -> None:
        async with asyncio.TaskGroup() as tasks:
            in_flights.append(InFlight(tasks))
            raise ValueError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        await end_with_a_bug()
    [in_flight] = in_flights
    in_flight.start(work(1, []), lambda: True)
    assert len(in_flight) == 0
    assert [str(error) for error in caught.value.exceptions] == ["a bug"]
