"""A thread that owns a Kafka client. It asks the event loop and waits for the answer; nothing calls into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

_T = TypeVar("_T")


@final
class LoopThread:
    """Runs one function on a thread of its own. The only thing shared with it is the wish to stop."""

    def __init__(self, name: str, wake: Callable[[], object] = lambda: None) -> None:
        """``wake``: ends a wait of the thread that `stopping` does not end."""
        self._name = name
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.stopping = threading.Event()
        """Set when the thread must end."""
        self._answered = threading.Lock()
        """The signal for an answer: the event loop releases the lock, and the thread that waits acquires it again."""
        self._answered.acquire()

    async def run(self, main: Callable[[], None]) -> None:
        """Run ``main`` until it ends. Cancelling this stops it and waits all the same."""
        with ThreadPoolExecutor(1, thread_name_prefix=self._name) as thread:
            work = self._loop.run_in_executor(thread, main)
            cancelled = False
            # Leaving this block makes the loop's thread wait for the other thread, which waits for the loop's
            # answers: it must have ended before, however often this task is cancelled.
            while not work.done():
                try:
                    await asyncio.wait([work])
                except asyncio.CancelledError:
                    self.stop()
                    cancelled = True
            work.result()
            if cancelled:
                raise asyncio.CancelledError

    def stop(self) -> None:
        """Let the thread end."""
        self.stopping.set()
        self._wake()

    def ask(self, question: Callable[..., _T], *arguments: object) -> _T:
        """Call on the event loop and wait for the answer. Only the thread of `run` may ask: it has one question."""
        answers: list[_T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                answers.append(question(*arguments))
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asked
                errors.append(error)
            self._answered.release()

        self._loop.call_soon_threadsafe(call)
        self._answered.acquire()
        if errors:
            raise errors.pop()
        return answers[0]

    def await_(self, work: Coroutine[None, None, _T]) -> _T:
        """Run a coroutine on the event loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def tell(self, hear: Callable[..., None], *arguments: object) -> None:
        """Call on the event loop and do not wait."""
        self._loop.call_soon_threadsafe(hear, *arguments)
