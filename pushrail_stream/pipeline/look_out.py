"""Look out: whether the buses that are sent to still exist, asked now and then and never in a hurry.

PutEvents to a bus that is gone succeeds and drops the event; only DescribeEventBus tells. Every destination is asked
about when it becomes active and every ten minutes after that, as far as its role may ask. While a bus is gone it is
asked about at growing intervals, so that its destination resumes by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final, NamedTuple, final

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import BusBack, BusGone
from pushrail_stream.core.suspension import FIRST_PROBE_SECS, LAST_PROBE_SECS
from pushrail_stream.pipeline.under_way import UnderWay
from pushrail_stream.ports import Bus, Directory, Observer

LOOK_AGAIN_SECS: Final = 600.0
_GAP_SECS: Final = 0.05
"""Between two calls, whatever the account: 20 a second."""
_ACCOUNT_GAP_SECS: Final = 1.0
"""Between two calls about one account's buses: its quota for all control-plane calls is 50 a second (facts 1.1)."""
_AHEAD: Final = 100
"""How far along the queue one is sought whose account may be asked."""


class _Gone(NamedTuple):
    since: float
    pause_secs: float


@final
class LookOut:
    """Which buses are gone. Lives on the event loop; every method but `_look` returns at once."""

    def __init__(
        self,
        *,
        bus: Bus,
        directory: Directory,
        under_way: UnderWay,
        observe: Observer,
    ) -> None:
        self._bus = bus
        self._directory = directory
        self._under_way = under_way
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._queue: deque[str] = deque()
        self._look_at: dict[str, float] = {}
        self._account_at: dict[str, float] = {}
        self._gone: dict[str, _Gone] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def gone(self) -> Collection[str]:
        """The destinations whose bus was missing when it was last asked about."""
        return self._gone.keys()

    def is_gone(self, destination_id: str) -> bool:
        """Whether the bus of this destination was missing when it was last asked about."""
        return destination_id in self._gone

    def watch(self, destination: Destination) -> None:
        """The destination is active: ask about its bus, unless that was done lately."""
        if self._look_at.get(destination.id, 0.0) <= self._loop.time():
            self._enqueue(destination.id)

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()

    def _enqueue(self, destination_id: str) -> None:
        self._look_at[destination_id] = float("inf")
        self._queue.append(destination_id)
        if self._timer is None:
            self._timer = self._loop.call_later(_GAP_SECS, self._tick)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_GAP_SECS, self._tick) if self._queue else None
        now = self._loop.time()
        for _ in range(min(_AHEAD, len(self._queue))):
            destination_id = self._queue.popleft()
            destination = self._directory.get(destination_id)
            if destination is None:
                self._forget(destination_id)
                continue
            account = destination.bus_arn.split(":")[4]
            if self._account_at.get(account, 0.0) > now:
                self._queue.append(destination_id)
                continue
            self._account_at[account] = now + _ACCOUNT_GAP_SECS
            self._under_way.start(self._look(destination), lambda: False)
            return

    async def _look(self, destination: Destination) -> None:
        presence = await self._bus.look(destination)
        now = self._loop.time()
        self._look_at[destination.id] = now + LOOK_AGAIN_SECS
        before = self._gone.get(destination.id)
        if presence == "gone":
            pause = FIRST_PROBE_SECS if before is None else min(2 * before.pause_secs, LAST_PROBE_SECS)
            self._gone[destination.id] = _Gone(now if before is None else before.since, pause)
            if before is None:
                self._observe(BusGone(destination))
            self._loop.call_later(pause, self._enqueue, destination.id)
        elif before is not None and presence == "there":
            del self._gone[destination.id]
            self._observe(BusBack(destination, now - before.since))
        elif before is not None:
            self._loop.call_later(before.pause_secs, self._enqueue, destination.id)

    def _forget(self, destination_id: str) -> None:
        self._gone.pop(destination_id, None)
        self._look_at.pop(destination_id, None)
