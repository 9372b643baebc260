"""Look out: whether the buses that are sent to still exist, asked now and then and never in a hurry.

PutEvents to a bus that is gone succeeds and drops the event; only DescribeEventBus tells. Every destination is asked
about when it becomes active, when its document names another bus or other credentials, and every ten minutes after
that, as far as its role may ask. While a bus is gone it is asked about at growing intervals, so that its destination
resumes by itself: once the bus is there, or once the role may ask no more and nobody can say that it is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
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
_NEVER: Final = float("inf")


class _Gone(NamedTuple):
    since: float
    pause_secs: float


@dataclass(slots=True, eq=False)
class _Watched:
    """What is known of one destination's bus, reached as this document says. Another way of reaching it is another."""

    destination: Destination
    gone: _Gone | None
    look_at: float = _NEVER
    """When it is to be asked about again; never while that is under way."""


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
        self._queue: deque[_Watched] = deque()
        self._watched: dict[str, _Watched] = {}
        self._account_at: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def gone(self) -> Collection[str]:
        """The destinations whose bus was missing when it was last asked about."""
        return {name for name, watched in self._watched.items() if watched.gone is not None}

    def is_gone(self, destination_id: str) -> bool:
        """Whether the bus of this destination was missing when it was last asked about."""
        watched = self._watched.get(destination_id)
        return watched is not None and watched.gone is not None

    def watch(self, destination: Destination) -> None:
        """The destination is active, with this document: ask about its bus, unless that was done lately."""
        watched = self._current(destination)
        if watched.look_at <= self._loop.time():
            self._enqueue(watched)

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()

    def _current(self, destination: Destination) -> _Watched:
        """What is known of the bus as this document names and reaches it: of another way nothing, so ask at once."""
        watched = self._watched.get(destination.id)
        if watched is not None and watched.destination is destination:
            return watched
        if watched is None or watched.destination.reach != destination.reach:
            watched = self._begin(destination, watched)
        watched.destination = destination
        return watched

    def _begin(self, destination: Destination, before: _Watched | None) -> _Watched:
        # Of the same bus, reached with other credentials, the last word stands until there is another.
        is_same_bus = before is not None and before.destination.bus_arn == destination.bus_arn
        gone = before.gone if before is not None and is_same_bus else None
        watched = self._watched[destination.id] = _Watched(destination, gone)
        self._enqueue(watched, first=before is not None)
        return watched

    def _enqueue(self, watched: _Watched, *, first: bool = False) -> None:
        """``first``: before those that only begin, as thousands may after a start."""
        watched.look_at = _NEVER
        if first:
            self._queue.appendleft(watched)
        else:
            self._queue.append(watched)
        if self._timer is None:
            self._timer = self._loop.call_later(_GAP_SECS, self._tick)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_GAP_SECS, self._tick) if self._queue else None
        now = self._loop.time()
        for _ in range(min(_AHEAD, len(self._queue))):
            watched = self._queue.popleft()
            if self._is_due(watched):
                account = watched.destination.bus_arn.split(":")[4]
                if self._account_at.get(account, 0.0) <= now:
                    self._account_at[account] = now + _ACCOUNT_GAP_SECS
                    self._under_way.start(self._look(watched), lambda: False)
                    return
                self._queue.append(watched)

    def _is_due(self, watched: _Watched) -> bool:
        """Whether the document still is what was queued; a changed one is queued by itself."""
        name = watched.destination.id
        if self._watched.get(name) is not watched:
            return False
        destination = self._directory.get(name)
        if destination is None or not destination.enabled:
            del self._watched[name]
            return False
        return self._current(destination) is watched

    async def _look(self, watched: _Watched) -> None:
        presence = await self._bus.look(watched.destination)
        if self._watched.get(watched.destination.id) is not watched:
            return  # the document has changed meanwhile: this is no answer to what it says now
        now, before = self._loop.time(), watched.gone
        if presence == "gone":
            pause = FIRST_PROBE_SECS if before is None else min(2 * before.pause_secs, LAST_PROBE_SECS)
            watched.gone = _Gone(now if before is None else before.since, pause)
            if before is None:
                self._observe(BusGone(watched.destination))
        elif before is not None and presence != "unknown":
            watched.gone = None
            self._observe(BusBack(watched.destination, now - before.since))
        if watched.gone is None:
            watched.look_at = now + LOOK_AGAIN_SECS
        else:
            self._loop.call_later(watched.gone.pause_secs, self._enqueue, watched)
