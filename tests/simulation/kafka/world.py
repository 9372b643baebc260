"""The part of the scheduler that the simulated Kafka uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class World(Protocol):
    """`Scheduler`, as brokers and the network use it."""

    @property
    def now(self) -> float: ...

    def call_later(self, secs: float, function: Callable[..., Any], *args: Any) -> Timer: ...


class ClientHost(Protocol):
    """`Host`, as clients use it: their background work waits while the host is paused, and ends with it."""

    name: str
    is_alive: bool

    def call_later(self, secs: float, function: Callable[..., Any], *args: Any) -> Timer: ...
