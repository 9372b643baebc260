"""Blocking calls: their results and exceptions come back, and a call that hangs holds up neither loop nor process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from pushrail_stream.blocking import in_daemon_thread, map_in_daemon_threads

HANG = """
import asyncio, os, threading
from pushrail_stream.blocking import in_daemon_thread, map_in_daemon_threads

async def main():
    for hanging in (threading.Event().wait, lambda: map_in_daemon_threads(threading.Event().wait, [None] * 3, 2)):
        try:
            async with asyncio.timeout(0.05):
                await in_daemon_thread(hanging)
        except TimeoutError:
            print("given up", flush=True)

asyncio.run(main())
"""


async def test_a_result_and_an_exception_come_back() -> None:
    def refuse() -> None:
        raise ValueError("no")

    assert await in_daemon_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ValueError, match="no"):
        await in_daemon_thread(refuse)


async def test_a_cancelled_calls_result_is_dropped() -> None:
    begun, go_on, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        ended.set()

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(in_daemon_thread(hang))
        await begun.wait()
        waiting.cancel()
    go_on.set()
    await in_daemon_thread(ended.wait)


def test_a_process_ends_while_its_calls_hang() -> None:
    done = subprocess.run([sys.executable, "-c", HANG], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n") == ["given up", "given up", ""]
    assert done.stderr == ""


def test_results_keep_the_order_of_items() -> None:
    running, most, lock = set[str](), list[int](), threading.Lock()
    both = threading.Barrier(2)

    def double(number: int) -> int:
        with lock:
            running.add(threading.current_thread().name + str(threading.get_ident()))
            most.append(threading.active_count())
        if number < 2:
            both.wait(60)
        return 2 * number

    before = threading.active_count()
    assert map_in_daemon_threads(double, range(100), 2) == [2 * number for number in range(100)]
    assert len(running) == 2
    assert max(most) <= before + 2
    assert map_in_daemon_threads(double, [], 2) == []


def test_an_exception_of_one_item_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        map_in_daemon_threads(lambda number: 1 // number, [1, 0, 2], 2)
