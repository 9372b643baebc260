"""A world of timers alone, for tests of the simulated Kafka that need no simulated threads."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class FakeTimer:
    """A call that may be cancelled."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function: Callable[[], Any] | None = function

    def cancel(self) -> None:
        """Do not call."""
        self.function = None


class FakeWorld:
    """Implements `World`."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._heap: list[tuple[float, int, FakeTimer]] = []
        self._numbers = count()

    def call_later(self, secs: float, function: Callable[..., Any], *args: Any) -> FakeTimer:
        """As `Scheduler.call_later`."""
        timer = FakeTimer(lambda: function(*args))
        heapq.heappush(self._heap, (self.now + secs, next(self._numbers), timer))
        return timer

    def run(self, secs: float) -> None:
        """Let this time pass."""
        until = self.now + secs
        while self._heap and self._heap[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._heap)
            if timer.function is not None:
                timer.function()
        self.now = until


class FakeHost:
    """Implements `ClientHost`."""

    def __init__(self, world: FakeWorld, name: str = "worker-1") -> None:
        self.name = name
        self.is_alive = True
        self._world = world

    def call_later(self, secs: float, function: Callable[..., Any], *args: Any) -> FakeTimer:
        """As `Host.call_later`."""
        return self._world.call_later(secs, lambda: function(*args) if self.is_alive else None)
