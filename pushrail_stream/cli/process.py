"""Signals, limits and memory of a process that serves until it is told to stop."""

from __future__ import annotations

import ctypes
import resource
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

_T = TypeVar("_T")
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_M_MMAP_THRESHOLD: Final = -3
"""glibc's number for the setting "size from which a block is mapped on its own" (mallopt(3))."""
_LARGE_BYTES: Final = 4 * 2**20
"""Bytes from which a block gets a mapping of its own. Each new mapping costs a page fault for every 4 KiB, so blocks
that come with every batch stay below this size: an ordinary batch takes up to 1 MB decompressed, and zstd takes 3.5 MiB
to compress one at librdkafka's default level. By itself glibc raises the value to 32 MiB as soon as a block of that
size is freed."""
_M_TRIM_THRESHOLD: Final = -1
"""glibc's number for the setting "free bytes at the heap's end from which they go back to the system" (mallopt(3))."""
_KEPT_BYTES: Final = 16 * 2**20
"""Free bytes that the heap may keep at its end: room for a few batches, little of a worker's 100 MiB."""


@contextmanager
def signal_handlers(act: Callable[[], object] | None = None) -> Iterator[None]:
    """Let SIGTERM and SIGINT call ``act``, if any. Afterwards they have the handlers that they had before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        if act is not None:
            for number in SIGNALS:
                signal.signal(number, lambda _number, _frame: act())
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_loop(work: Coroutine[None, None, _T]) -> _T:
    """Run ``work`` on an event loop of its own. SIGTERM and SIGINT cancel it, unless it calls `on_signal` itself.

    Raises `KeyboardInterrupt` when ``work`` was cancelled and let the cancellation pass.
    """
    import asyncio

    import uvloop

    async def run() -> _T:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a coroutine runs in a task")
        on_signal(task.cancel)
        return await work

    # A closed uvloop leaves its handlers in place, and they ignore the signal; so the earlier ones come back.
    with signal_handlers(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(run())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def on_signal(act: Callable[[], object]) -> None:
    """Let SIGTERM and SIGINT, and the end of the process that supervises this one, call ``act`` on the loop."""
    import asyncio
    import multiprocessing

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, act)
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        # A supervisor that was killed cannot ask: its workers drain and end when it is gone.
        loop.add_reader(supervisor.sentinel, _end_with, supervisor.sentinel, act)


def allow_many_sockets() -> None:
    """Raise the limit of open files to the system's: each call in flight and each client holds a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_with(sentinel: int, act: Callable[[], object]) -> None:
    import asyncio

    asyncio.get_running_loop().remove_reader(sentinel)  # it stays readable, and once is enough
    act()


def return_large_blocks() -> None:
    """Give every large block back to the system when it is freed.

    By default glibc learns to keep large blocks on its heap, where smaller ones that live longer pin them: a worker
    that had once read 2 GB of large events kept 900 MB until its end, instead of 100 MB. Other C libraries have no such
    setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def return_free_pages() -> None:
    """Give every free page of the heap back to the system, wherever it lies.

    By itself glibc returns only the heap's end. Each connection with TLS takes a block of 256 KiB, of which it uses a
    page or two. After a burst of 1,000 calls the heap has 300 MiB of free blocks, and later connections use other pages
    of them: in time the process would keep them all. Takes about 5 ms, and 0.2 ms for each MiB that is returned.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
