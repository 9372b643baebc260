"""Signals, limits and memory of a process that serves."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import signal

import psutil
import pytest

from pushrail_stream.cli.process import (
    SIGNALS,
    allow_many_sockets,
    on_signal,
    return_free_pages,
    run_loop,
    signal_handlers,
)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_calls_the_handler_of_the_block(number: signal.Signals) -> None:
    before, calls = signal.getsignal(number), list[str]()
    with signal_handlers(lambda: calls.append("called")):
        signal.raise_signal(number)
    assert calls == ["called"]
    assert signal.getsignal(number) is before


def test_without_a_handler_signals_stay_as_they_are() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with signal_handlers():
        assert [signal.getsignal(number) for number in SIGNALS] == before
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_work_returns_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert run_loop(work()) == 7


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_cancels_the_work(number: signal.Signals) -> None:
    ended = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    with pytest.raises(KeyboardInterrupt):
        run_loop(work())
    assert ended == ["ended"]


def test_work_may_handle_signals_itself() -> None:
    async def work() -> str:
        stopped = asyncio.Event()
        on_signal(stopped.set)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await stopped.wait()
        return "drained"

    assert run_loop(work()) == "drained"


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        allow_many_sockets()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        allow_many_sockets()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such call")
def test_free_memory_below_the_heaps_end_is_returned() -> None:
    process = psutil.Process()
    blocks = [b"x" * (100_000 + number) for number in range(1_000)]
    kept = blocks[::50] + blocks[-1:]
    del blocks
    before = process.memory_info().rss
    return_free_pages()
    assert before - process.memory_info().rss > 50_000_000
    assert len(kept) == 21
