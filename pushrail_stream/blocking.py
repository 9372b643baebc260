"""Calls that may never return. They run on daemon threads: the end of the process does not wait for them.

`asyncio.to_thread` and `ThreadPoolExecutor` do wait: one hung call, to a mount that does not answer or to a broker that
cannot be reached, would keep the process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


async def in_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function on a thread of its own and return its result, or raise its exception.

    If the task is cancelled meanwhile, the call continues and its result is dropped.
    """
    import asyncio

    return await asyncio.wrap_future(start_daemon_thread(function, *args, **kwargs))


def map_in_daemon_threads(function: Callable[[S], T], items: Iterable[S], threads: int) -> Sequence[T]:
    """Call the function for every item on at most this many threads. The results have the order of the items."""
    left = list(enumerate(items))
    left.reverse()
    results: dict[int, T] = {}

    def work() -> None:
        while True:
            try:
                number, item = left.pop()
            except IndexError:
                return
            results[number] = function(item)

    for running in [start_daemon_thread(work) for _ in range(min(threads, len(left)))]:
        running.result()
    return [results[number] for number in sorted(results)]


def start_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call the function on a thread of its own; the future holds its result or its exception."""
    call: Future[T] = Future()
    call.set_running_or_notify_cancel()  # a running call cannot be cancelled, only given up

    def run() -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the future hands it on
            call.set_exception(error)
        else:
            call.set_result(result)

    threading.Thread(target=run, name=f"aside-{getattr(function, '__name__', 'call')}", daemon=True).start()
    return call
