"""Deadlines of calls. One timer serves all of them: `asyncio.timeout` sets one for each call, at ten times the cost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final, TypeVar, cast, final

_T = TypeVar("_T")
_EARLY_SECS: Final = 0.001
"""Seconds by which the timer may ring before its time: uvloop counts in whole milliseconds."""


@final
class Deadlines:
    """Cuts off the work of tasks at its deadline. Times are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: dict[asyncio.Task[object], float | None] = {}
        """By task the deadline of its work; None once the timer has cancelled the task."""
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        """The timer's time: the first deadline, or earlier when the work with the first deadline has ended."""

    async def run(self, work: Coroutine[None, None, _T], deadline: float) -> _T:
        """The result of the work. Raises ``TimeoutError`` at the deadline. A task has one piece of work at a time."""
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._ends[task] = deadline
        if self._timer is None or deadline < self._rings_at:
            self._set_timer(deadline)
        try:
            return await work
        except asyncio.CancelledError:
            if self._ends[task] is None and task.cancelling() == 1:  # only the timer has cancelled the task
                raise TimeoutError from None
            raise
        finally:
            if self._ends.pop(task) is None:
                task.uncancel()  # the timer's cancellation is over, however the work has ended

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer, now, ahead = None, self._loop.time(), list[float]()
        for task, end in self._ends.items():
            if end is None:
                continue
            if end - now > _EARLY_SECS:
                ahead.append(end)
            else:
                self._ends[task] = None
                task.cancel()
        if ahead:
            self._set_timer(min(ahead))
