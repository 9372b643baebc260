"""One attempt at a time: callers that arrive during an attempt share its result, success or failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """A single flight without a task of its own. The first caller does the work; if it is cancelled, the next does.

    With a lock alone, every waiting caller would repeat a failed attempt, one after the other.
    """

    __slots__ = ("_attempts", "_lock", "_result")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._attempts = 0
        self._result: T

    @property
    def busy(self) -> bool:
        """Whether an attempt is in progress."""
        return self._lock.locked()

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of the attempt in progress, or of a new one."""
        seen = self._attempts
        async with self._lock:
            if self._attempts == seen:
                self._result = await attempt()
                self._attempts += 1
            return self._result
