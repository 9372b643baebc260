from __future__ import annotations

import asyncio

import pytest

from tests.support.virtual_time import Deadlock, VirtualClock, in_virtual_time, run, virtual_loop


@in_virtual_time
async def test_a_day_passes_in_exact_steps() -> None:
    clock = VirtualClock(start_ms=0)
    times: list[float] = []
    for secs in (0.1, 0.2, 86_400.0):
        await asyncio.sleep(secs)
        times.append(virtual_loop().elapsed)
    assert times == [0.1, 0.3, 86_400.3]
    assert clock.now_ms() == 86_400_300


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(wait_for_nothing())


def test_an_error_in_a_callback_fails_the_run() -> None:
    async def story() -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 // 0)
        await asyncio.sleep(2)

    with pytest.raises(BaseExceptionGroup) as failure:
        run(story())
    assert failure.group_contains(ZeroDivisionError)


def test_a_failed_check_between_steps_ends_the_run() -> None:
    def refuse() -> None:
        raise ValueError("no")

    async def story() -> None:
        virtual_loop().after_each_step(refuse)
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="no"):
        run(story())
