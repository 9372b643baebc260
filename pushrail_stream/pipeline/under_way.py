"""Work under way: tasks that hold deliveries, so that a partition can be given back once they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import final


@final
class UnderWay:
    """The attempts and dead-letter writes of one worker."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._leaving: dict[asyncio.Task[None], Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._leaving)

    def start(self, work: Coroutine[None, None, None], is_leaving: Callable[[], bool]) -> None:
        """Run ``work``; ``is_leaving`` says whether it holds a delivery of a partition that is being given back."""
        try:
            task = self._tasks.create_task(work)
        except RuntimeError:
            # A bug is ending the worker, and it is the bug that is to be told: this work stays unsettled.
            work.close()
            return
        self._leaving[task] = is_leaving
        task.add_done_callback(self._leaving.pop)

    async def drain(self, deadline_secs: float) -> None:
        """Wait until no work holds a delivery of a partition that is being given back, or the deadline has passed.

        Work may start more work, as an attempt starts the dead letters that follow from it: that is waited for too.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_secs
        while leaving := [task for task, is_leaving in self._leaving.items() if is_leaving()]:
            if (left := deadline - loop.time()) <= 0:
                return
            await asyncio.wait(leaving, timeout=left)

    def cancel(self) -> None:
        """End what is left: its deliveries stay unsettled, and whoever owns the partition next begins them again."""
        for task in self._leaving:
            task.cancel()
