"""Look out: whether the buses that are sent to exist.

A call to a bus that does not exist may succeed and drop its events; only a look tells. So the first batch of
a destination waits for the answer, and so does the first batch after its bus or credentials changed, or after nothing
was sent until the last answer was too old. The wait ends `ANSWER_SECS` after the look was sent, or when the role may
not ask. While batches are sent, the bus is asked about every ten minutes, and nothing waits for that. A missing bus is
asked about at growing intervals, so that its destination resumes by itself. When the destination's document goes,
everything known of its bus is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.bus_status import BusChecks, BusState
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import BUS_NOT_FOUND, Blocked, BusStatus, Delivered, Outcome
from pushrail_stream.core.signals import BusFound, BusMissing
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Ports
from pushrail_stream.pipeline.stats import MissingBusStats

ANSWER_SECS: Final = 2.0
"""Longest wait of a batch for the answer, in seconds from when the look is sent."""
_ACCOUNT_GAP_SECS: Final = 0.04
"""Seconds between two looks on the same quota: 25 a second. A quota is 50 a second, and the customer's own tools and
our other workers need their part."""
_BURST_SECS: Final = 2.0
"""Seconds of looks that an account may get at once after it was not asked: 50 looks, its quota for one second."""
_THROTTLED_SECS: Final = 1.0
"""Seconds without looks for an account that has refused one because of its quota."""


@final
class _Watched:
    """One destination's bus, reached as this document says. Another way of reaching it is another."""

    __slots__ = ("destination", "status", "timer")

    def __init__(self, destination: Destination, status: BusChecks) -> None:
        self.destination = destination
        self.status = status
        self.timer: asyncio.TimerHandle | None = None
        """Ends the wait for an answer, or begins the next look at a missing bus."""

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@final
class BusMonitor:
    """Which buses may be sent to. Lives on the event loop; every method but `_look` returns at once."""

    def __init__(self, ports: Ports, in_flight: InFlight) -> None:
        self._bus = ports.bus
        self._directory = ports.directory
        self._clock = ports.clock
        self._observe = ports.observe
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._watched: dict[str, _Watched] = {}
        self._missing: dict[str, _Watched] = {}
        """Those whose bus is missing."""
        self._account_at: dict[str, float] = {}
        """By account and region, when the next look would be due at one every `_ACCOUNT_GAP_SECS`."""
        self.answered: Callable[[str], None] = lambda _destination_id: None
        """Called with the id of a destination when its lane may have something to do."""

    def missing_buses(self) -> list[MissingBusStats]:
        """The destinations whose bus does not exist."""
        return [
            MissingBusStats(watched.destination, watched.status.missing, watched.status.swallowed)
            for watched in self._missing.values()
            if watched.status.missing is not None
        ]

    def watch(self, destination: Destination) -> BusState:
        """Whether a batch may be sent to the destination with this document now; begins a look when one is due."""
        watched = self._watched.get(destination.id)
        if watched is None or watched.destination is not destination:
            watched = self._adopt(destination, watched)
        if watched.status.is_due(self._loop.time()):
            self._ask(watched)
        return watched.status.state

    def changed(self, destination_id: str) -> None:
        """The document of this destination has changed or is gone: forget the old document's bus."""
        watched = self._watched.get(destination_id)
        if watched is None:
            return
        destination = self._directory.get(destination_id)
        if destination is None or not destination.enabled or not _is_same_bus(destination, watched.destination):
            self._forget(watched)
        elif watched.status.missing is not None:
            self.watch(destination)

    def judge(self, batch: Batch, outcomes: tuple[Outcome, ...], at_ms: int) -> tuple[Outcome, ...]:
        """The outcomes of a call made at this moment. A bus that was found missing meanwhile has delivered nothing."""
        watched = self._watched.get(batch.destination.id)
        if watched is None or watched.destination.bus != batch.destination.bus:
            return outcomes
        if watched.status.missing is not None:
            blocked = Blocked(BUS_NOT_FOUND, watched.status.missing.describe(batch.destination.bus))
            return tuple(blocked if isinstance(outcome, Delivered) else outcome for outcome in outcomes)
        watched.status.took(sum(isinstance(outcome, Delivered) for outcome in outcomes), at_ms)
        return outcomes

    def problem(self, destination: Destination) -> str:
        """Why nothing is sent to a destination whose bus is missing, for people."""
        missing = self._watched[destination.id].status.missing
        return "" if missing is None else missing.describe(destination.bus)

    def stop(self) -> None:
        """Ask no more."""
        for watched in self._watched.values():
            watched.cancel_timer()

    def _adopt(self, destination: Destination, before: _Watched | None) -> _Watched:
        """Keep what is known of the bus, as far as this document names and reaches the same one."""
        if before is None or not _is_same_bus(destination, before.destination):
            if before is not None:
                self._forget(before)
            watched = _Watched(destination, BusChecks())
        elif destination.reach == before.destination.reach:
            before.destination = destination
            return before
        else:
            before.cancel_timer()
            before.status.check_again()
            watched = _Watched(destination, before.status)
            if before.status.missing is not None:
                self._missing[destination.id] = watched
        self._watched[destination.id] = watched
        return watched

    def _forget(self, watched: _Watched) -> None:
        watched.cancel_timer()
        del self._watched[watched.destination.id]
        self._missing.pop(watched.destination.id, None)

    def _is_current(self, watched: _Watched) -> bool:
        """Whether the document is still the one that the look is about."""
        return self._watched.get(watched.destination.id) is watched

    def _ask(self, watched: _Watched) -> None:
        watched.status.begin_check()
        self._in_flight.start(self._look(watched), lambda: False)

    async def _look(self, watched: _Watched) -> None:
        if not await self._bus.sign_in(watched.destination):
            self._could_not_sign_in(watched)
            return
        await self._turn(self._bus.quota(watched.destination))
        if not self._is_current(watched):
            return
        if watched.status.is_awaited and watched.timer is None:
            watched.timer = self._loop.call_later(ANSWER_SECS, self._stop_waiting, watched)
        watched.status.note_sent(self._clock.now_ms())
        bus_status = await self._bus.check(watched.destination)
        if self._is_current(watched):
            self._take(watched, bus_status)

    async def _turn(self, account: str) -> None:
        """Wait until the account may be asked."""
        now = self._loop.time()
        if len(self._account_at) > 2 * len(self._watched):
            # The accounts of deleted destinations end here.
            self._account_at = {name: free_at for name, free_at in self._account_at.items() if free_at > now}
        free_at = max(now, self._account_at.get(account, now))
        self._account_at[account] = free_at + _ACCOUNT_GAP_SECS
        await asyncio.sleep(max(0.0, free_at - _BURST_SECS - now))

    def _could_not_sign_in(self, watched: _Watched) -> None:
        """Nothing can be sent without credentials: the waiting batch is tried and shows why, and the next one waits."""
        if not self._is_current(watched):
            return
        if watched.status.missing is not None or not watched.status.is_awaited:
            self._take(watched, "unknown")
            return
        watched.status.is_awaited = False
        self.answered(watched.destination.id)
        watched.status.check_again()

    def _stop_waiting(self, watched: _Watched) -> None:
        """The answer is late: batches stop waiting for it."""
        watched.timer, watched.status.is_awaited = None, False
        self.answered(watched.destination.id)

    def _take(self, watched: _Watched, bus_status: BusStatus) -> None:
        """Act on an answer."""
        status, destination, now = watched.status, watched.destination, self._loop.time()
        if bus_status == "busy" and status.is_awaited:
            account = self._bus.quota(destination)
            self._account_at[account] = max(self._account_at.get(account, now), now + _BURST_SECS + _THROTTLED_SECS)
            self._ask(watched)
            return
        watched.cancel_timer()
        now_ms, before, swallowed = self._clock.now_ms(), status.missing, status.swallowed
        status.learn(bus_status, now, now_ms)
        if status.missing is not None:
            self._missing[destination.id] = watched
            watched.timer = self._loop.call_later(status.pause_secs, self._look_again, watched)
            if before is None:
                self._observe(BusMissing(destination, status.missing, status.swallowed))
        elif before is not None:
            del self._missing[destination.id]
            self._observe(BusFound(destination, max(0, now_ms - before.since_ms) / 1000, swallowed))
        self.answered(destination.id)

    def _look_again(self, watched: _Watched) -> None:
        watched.timer = None
        self._ask(watched)


def _is_same_bus(one: Destination, other: Destination) -> bool:
    return one.bus == other.bus and one.owner == other.owner
