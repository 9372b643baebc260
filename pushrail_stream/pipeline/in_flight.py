"""Work in flight: the tasks that hold deliveries. A partition can be given up once they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import final


@final
class InFlight:
    """The attempts and the writes of copies of one worker."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._work: dict[asyncio.Task[None], Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._work)

    def start(self, work: Coroutine[None, None, None], is_revoked: Callable[[], bool]) -> None:
        """Run ``work`` as a task. ``is_revoked``: whether it holds a delivery of a revoked partition."""
        try:
            task = self._tasks.create_task(work)
        except RuntimeError:
            # A bug is ending the worker and must be reported, so this work stays undone.
            work.close()
            return
        self._work[task] = is_revoked
        task.add_done_callback(self._work.pop)

    async def drain(self, deadline_secs: float) -> None:
        """Wait until no work holds a delivery of a revoked partition, or the deadline has passed.

        Work may start more work, as an attempt starts the writes of its dead letters, and these are waited for too.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_secs
        while revoked := [task for task, is_revoked in self._work.items() if is_revoked()]:
            if (left := deadline - loop.time()) <= 0:
                return
            await asyncio.wait(revoked, timeout=left)

    def cancel(self) -> None:
        """End the remaining work. Its deliveries stay unsettled, and the partitions' next owners begin them again."""
        for task in self._work:
            task.cancel()
