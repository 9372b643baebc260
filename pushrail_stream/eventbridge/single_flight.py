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

    __slots__ = ("_attempts", "_is_kept", "_keep", "_lock", "_result")

    def __init__(self, keep: type | tuple[type, ...] | None = None) -> None:
        """``keep``: a result of this class is kept, and no attempt follows it."""
        self._keep = keep
        self._is_kept = False
        self._lock = asyncio.Lock()
        self._attempts = 0
        self._result: T

    @property
    def busy(self) -> bool:
        """Whether an attempt is in progress."""
        return self._lock.locked()

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of the attempt in progress, or of a new one."""
        if self._is_kept:
            return self._result
        seen = self._attempts
        async with self._lock:
            if self._attempts == seen:
                self._result = await attempt()
                self._attempts += 1
                self._is_kept = self._keep is not None and isinstance(self._result, self._keep)
            return self._result
