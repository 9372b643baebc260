"""One attempt at a time, its result shared by all who asked for it meanwhile, be it a success or a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """A single flight without a task of its own: whoever comes first does the work, and if cancelled the next does.

    A lock alone would let everyone who waited repeat a failed attempt one after the other.
    """

    __slots__ = ("_attempts", "_lock", "_result")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._attempts = 0
        self._result: T

    @property
    def busy(self) -> bool:
        """Whether an attempt is in flight."""
        return self._lock.locked()

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of the attempt in flight, or of a new one."""
        seen = self._attempts
        async with self._lock:
            if self._attempts == seen:
                self._result = await attempt()
                self._attempts += 1
            return self._result
