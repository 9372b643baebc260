"""Work in flight: tasks that hold deliveries, so that a partition can be given back once they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import final


@final
class InFlight:
    """The attempts and dead-letter writes of one worker."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._work: dict[asyncio.Task[None], Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._work)

    def start(self, work: Coroutine[None, None, None], is_revoked: Callable[[], bool]) -> None:
        """Run ``work``; ``is_revoked`` says whether it holds a delivery of a partition that is being given back."""
        try:
            task = self._tasks.create_task(work)
        except RuntimeError:
            # A bug is ending the worker, and it is the bug that is to be told: this work stays unsettled.
            work.close()
            return
        self._work[task] = is_revoked
        task.add_done_callback(self._work.pop)

    async def drain(self, deadline_secs: float) -> None:
        """Wait until no work holds a delivery of a partition that is being given back, or the deadline has passed.

        Work may start more work, as an attempt starts the dead letters that follow from it: that is waited for too.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_secs
        while revoked := [task for task, is_revoked in self._work.items() if is_revoked()]:
            if (left := deadline - loop.time()) <= 0:
                return
            await asyncio.wait(revoked, timeout=left)

    def cancel(self) -> None:
        """End what is left: its deliveries stay unsettled, and whoever owns the partition next begins them again."""
        for task in self._work:
            task.cancel()
