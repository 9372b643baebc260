"""Signals and limits of a process that serves until it is told to stop."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import uvloop

_T = TypeVar("_T")
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_loop(work: Coroutine[None, None, _T]) -> _T:
    """Run ``work`` on an event loop of its own. Afterwards SIGTERM and SIGINT have the handlers that they had before.

    A closed uvloop leaves its handlers in place, and they ignore the signal.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_signal(act: Callable[[], object]) -> None:
    """Let SIGTERM and SIGINT, and the end of the process that supervises this one, call ``act`` on the loop."""
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
    asyncio.get_running_loop().remove_reader(sentinel)  # it stays readable, and once is enough
    act()
