"""A thread that owns a Kafka client asks the event loop, and its failure reaches the task that waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pushrail_stream.kafka.loop_thread import LoopThread
from tests.support.patience import PATIENCE_SECS


async def test_it_asks_on_the_loops_thread() -> None:
    loops, answers = threading.get_ident(), list[int]()
    thread, told = LoopThread("asking"), asyncio.Event()

    async def work() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    def main() -> None:
        answers.append(thread.ask(threading.get_ident))
        answers.append(thread.await_(work()))
        thread.tell(told.set)

    async with asyncio.timeout(PATIENCE_SECS):
        await thread.run(main)
        await told.wait()
    assert answers == [loops] * 2


async def test_an_error_of_the_loop_is_raised_in_the_thread_and_ends_it() -> None:
    thread = LoopThread("failing")

    def refuse() -> None:
        raise ValueError("refused")

    async with asyncio.timeout(PATIENCE_SECS):
        with pytest.raises(ValueError, match="refused"):
            await thread.run(lambda: thread.ask(refuse))


async def test_cancelling_waits_for_the_end_of_the_thread() -> None:
    thread, ended, begun = LoopThread("cancelled"), threading.Event(), asyncio.Event()

    def main() -> None:
        thread.tell(begun.set)
        thread.stopping.wait(PATIENCE_SECS)
        assert thread.ask(lambda: "an answer") == "an answer"
        ended.set()

    async with asyncio.timeout(PATIENCE_SECS), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(thread.run(main))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert ended.is_set()
