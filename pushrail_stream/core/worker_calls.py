"""The calls of one worker: the number in flight, and the endpoints that they go to. Its lanes share both."""

from __future__ import annotations

from typing import Final, final

from pushrail_stream.core.destination import CustomerBus
from pushrail_stream.core.outage import Endpoint

MAX_CALLS: Final = 256
"""Calls in flight of one worker from which no window is used beyond its usual size. At a round trip of 50 ms they make
51,200 events/s, three times as many as a processor renders. More would cost connections and memory, and gain nothing.
Up to its usual size every window may be used, as no customer waits for another."""


@final
class WorkerCalls:
    """The calls of all lanes of one worker."""

    __slots__ = ("_endpoints", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        """By type and region of the bus. There are few of both."""

    @property
    def has_room(self) -> bool:
        """Whether a destination may have more calls than usual in flight."""
        return self.in_flight < MAX_CALLS

    def endpoint(self, bus: CustomerBus) -> Endpoint:
        """The endpoint of this bus: a service has one in each region, and buses of another type another service."""
        return self._endpoints.setdefault((bus.type, bus.region), Endpoint())
