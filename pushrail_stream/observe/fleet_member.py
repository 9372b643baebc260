"""The worker as a member of the fleet: it shows its state to others, and carries out requests to its group.

Nothing here concerns deliveries. A failure is reported once, and tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, final

from pushrail_stream.core.signals import FleetTrouble
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.control import Answer, Request, RequestKind
from pushrail_stream.observe.worker_record import EVERY_SECS, WorkerRecord
from pushrail_stream.ports.fleet import FleetLink
from pushrail_stream.ports.pipeline import Clock, Observer

Handler = Callable[[Mapping[str, str]], Awaitable[Mapping[str, Any]]]
"""Carries out a request with these arguments. Returns the result; raises `OperatorError` when that is impossible."""
_AGAIN_SECS: Final = 30.0
"""Seconds before a topic that could not be used is tried again."""
_LAST_SECS: Final = 2.0
"""Longest wait for the end of the worker's state, in seconds: nothing else waits for Kafka then."""
_MAX_REQUESTS: Final = 4
"""Requests that are carried out at once."""


@final
class FleetMember:
    """Shows one worker's state, and answers requests. Lives on the event loop."""

    def __init__(
        self, link: FleetLink, state: Callable[[], WorkerRecord], handlers: Mapping[RequestKind, Handler],
        clock: Clock, observe: Observer,
    ) -> None:  # fmt: skip
        self._link = link
        self._state = state
        self._handlers = handlers
        self._clock = clock
        self._observe = observe
        self._reported = set[str]()
        """Troubles that were reported and have not ended."""

    async def keep(self) -> None:
        """Show the state again and again, and answer requests, until cancelled. Then the state is removed."""
        # A command that sees the worker can reach it.
        await self._try("read", self._link.begin())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._show())
                tasks.create_task(self._serve(tasks))
        finally:
            await self._end()

    async def _show(self) -> None:
        while True:
            is_shown = await self._try("write", self._link.write_state(self._state().encode()))
            await asyncio.sleep(EVERY_SECS if is_shown else _AGAIN_SECS)

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        room = asyncio.Semaphore(_MAX_REQUESTS)

        async def read() -> None:
            for value in await self._link.requests():
                request = Request.read(value)
                if request is None or request.group not in {"", self._state().group}:
                    continue
                await room.acquire()
                if request.is_expired(self._clock.now_ms()):
                    room.release()
                else:
                    tasks.create_task(self._answer(request)).add_done_callback(lambda _: room.release())

        while True:
            if not await self._try("read", read()):
                await asyncio.sleep(_AGAIN_SECS)

    async def _answer(self, request: Request) -> None:
        result, problem = dict[str, Any](), ""
        try:
            result |= await self._handlers[request.kind](request.arguments)
        except OperatorError as error:
            problem = str(error)
        answer = Answer(request.id, self._state().id, result, problem)
        await self._try("answer", self._link.write_answer(answer.encode()))

    async def _try(self, use: str, step: Awaitable[None]) -> bool:
        """Whether the step worked. Its first failure is reported, and another one after it has worked again."""
        try:
            await step
        except OperatorError as error:
            if use not in self._reported:
                self._reported.add(use)
                self._observe(FleetTrouble(f"{error}. Commands and pages do not see or reach this worker"))
            return False
        self._reported.discard(use)
        return True

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(_LAST_SECS):
                await self._link.write_state(None)
        except (OperatorError, TimeoutError):
            return  # others see the worker as lost in a while
