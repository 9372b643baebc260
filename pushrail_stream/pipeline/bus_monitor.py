"""The bus monitor: it checks whether destinations' buses exist.

A call to a missing bus may succeed and drop its events, and only a check reveals that. So a destination's first batch
waits for the answer to a check. The same holds for the first batch after a change of bus or credentials, or after the
last answer has become too old. The wait ends `ANSWER_SECS` after the check was sent, or when the credentials do not
allow it. While batches are sent, the bus is checked every ten minutes, and no batch waits for that. A missing bus is
checked at growing intervals, so that its destination resumes by itself. A deleted document ends all checks of its bus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.bus_status import BusChecks, BusState
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import BUS_NOT_FOUND, Blocked, BusStatus, Delivered, Outcome
from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.core.signals import BusFound, BusMissing
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Ports

ANSWER_SECS: Final = 2.0
"""Longest wait of a batch for the answer, in seconds after the check was sent."""
_CHECKS_PER_SECOND: Final = 25.0
"""Checks on the same quota. A quota is 50 a second, and the customer's own tools and our other workers need their
part."""
_BURST: Final = 50.0
"""Checks that an unused quota allows at once: the quota of one second."""
_THROTTLED_SECS: Final = 1.0
"""Seconds without checks on a quota that is used up."""


@dataclass(slots=True, eq=False)
class _Watched:
    """One destination's bus and one way to reach it. Another way to reach it is another object."""

    destination: Destination
    status: BusChecks
    timer: asyncio.TimerHandle | None = None
    """Ends the wait for an answer, or starts the next check of a missing bus."""

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@final
class BusMonitor:
    """Checks whether buses exist. Every method except `_check` and `_turn` returns at once."""

    def __init__(self, ports: Ports, in_flight: InFlight) -> None:
        self._bus = ports.bus
        self._directory = ports.directory
        self._clock = ports.clock
        self._observe = ports.observe
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._watched: dict[str, _Watched] = {}
        self._quotas: dict[str, TokenBucket] = {}
        self.answered: Callable[[str], None] = lambda _destination_id: None
        """Called with a destination's id when its lane may open or shut."""

    def missing_buses(self) -> list[BusMissing]:
        """The destinations whose bus does not exist."""
        return [
            BusMissing(watched.destination, watched.status.missing, watched.status.swallowed)
            for watched in self._watched.values()
            if watched.status.missing is not None
        ]

    def watch(self, destination: Destination) -> BusState:
        """Whether a batch may be sent to the destination now. Starts a check when one is due."""
        watched = self._watched.get(destination.id)
        if watched is None or watched.destination is not destination:
            watched = self._adopt(destination, watched)
        if watched.status.is_due(self._loop.time()):
            self._ask(watched)
        return watched.status.state

    def changed(self, destination_id: str) -> None:
        """Follow a document that has changed or was deleted."""
        watched = self._watched.get(destination_id)
        if watched is None:
            return
        destination = self._directory.get(destination_id)
        if destination is None or destination.closed_as or not _is_same_bus(destination, watched.destination):
            self._forget(watched)
        elif watched.status.missing is not None:
            self.watch(destination)

    def doubt(self, destination_id: str) -> BusState:
        """``missing``: it was not found. ``awaited``: it was not found, and is checked again. Else ``open``."""
        watched = self._watched.get(destination_id)
        return "open" if watched is None or watched.status.missing is None else watched.status.state

    def check_now(self, destination_id: str) -> None:
        """Check a missing bus at once: an operator says that it is back. Until the answer nothing is given up."""
        watched = self._watched.get(destination_id)
        if watched is not None and watched.status.missing is not None:
            watched.cancel_timer()
            watched.status.check_again()
            again = self._watched[destination_id] = _Watched(watched.destination, watched.status)
            self._ask(again)
            self.answered(destination_id)

    def judge(self, batch: Batch, outcomes: tuple[Outcome, ...], at_ms: int) -> tuple[Outcome, ...]:
        """Correct the outcomes of a call of this time: a bus that was found missing meanwhile delivered nothing."""
        watched = self._watched.get(batch.destination.id)
        if watched is None or watched.destination.bus.arn != batch.destination.bus.arn:
            return outcomes
        if watched.status.missing is not None:
            blocked = Blocked(BUS_NOT_FOUND, watched.status.missing.describe(batch.destination.bus.arn))
            return tuple(blocked if isinstance(outcome, Delivered) else outcome for outcome in outcomes)
        watched.status.count_delivered(sum([isinstance(outcome, Delivered) for outcome in outcomes]), at_ms)
        return outcomes

    def problem(self, destination: Destination) -> str:
        """The message of dead letters for a missing bus."""
        missing = self._watched[destination.id].status.missing
        return "" if missing is None else missing.describe(destination.bus.arn)

    def stop(self) -> None:
        """End all checks."""
        for watched in self._watched.values():
            watched.cancel_timer()

    def _adopt(self, destination: Destination, before: _Watched | None) -> _Watched:
        """Keep the knowledge of the bus if this document names the same one, and reaches it in the same way."""
        if before is None or not _is_same_bus(destination, before.destination):
            if before is not None:
                self._forget(before)
            watched = _Watched(destination, BusChecks())
        elif destination.bus == before.destination.bus:
            before.destination = destination
            return before
        else:
            before.cancel_timer()
            before.status.check_again()
            watched = _Watched(destination, before.status)
        self._watched[destination.id] = watched
        return watched

    def _forget(self, watched: _Watched) -> None:
        watched.cancel_timer()
        del self._watched[watched.destination.id]

    def _is_current(self, watched: _Watched) -> bool:
        """Whether the document has not changed since the check began."""
        return self._watched.get(watched.destination.id) is watched

    def _ask(self, watched: _Watched) -> None:
        watched.status.begin_check()
        self._in_flight.start(self._check(watched), lambda: False)

    async def _check(self, watched: _Watched) -> None:
        # No batch waits for a sign-in beyond its hold. A failure would only make it fail, again and again.
        if not await self._bus.sign_in(watched.destination, patient=watched.status.is_awaited):
            self._could_not_sign_in(watched)
            return
        await self._turn(watched.destination)
        if not self._is_current(watched):
            return
        if watched.status.is_awaited and watched.timer is None:
            watched.timer = self._loop.call_later(ANSWER_SECS, self._stop_waiting, watched)
        watched.status.note_sent(self._clock.now_ms())
        bus_status = await self._bus.check(watched.destination)
        if self._is_current(watched):
            self._take(watched, bus_status)

    def _quota(self, destination: Destination) -> TokenBucket:
        return self._quotas.setdefault(self._bus.quota(destination), TokenBucket(_CHECKS_PER_SECOND, _BURST))

    async def _turn(self, destination: Destination) -> None:
        """Wait until the quota allows a check."""
        now = self._loop.time()
        if len(self._quotas) > 2 * len(self._watched):
            # Forget the quotas of deleted destinations.
            self._quotas = {name: quota for name, quota in self._quotas.items() if not quota.is_full(now)}
        quota = self._quota(destination)
        wait_secs = quota.wait_secs(now)
        quota.spend(now)
        await asyncio.sleep(wait_secs)

    def _could_not_sign_in(self, watched: _Watched) -> None:
        """Let the waiting batch fail and show why there are no credentials. The next batch waits again."""
        if not self._is_current(watched):
            return
        if watched.status.missing is not None or not watched.status.is_awaited:
            self._take(watched, "unknown")
            return
        watched.status.is_awaited = False
        self.answered(watched.destination.id)
        watched.status.check_again()

    def _stop_waiting(self, watched: _Watched) -> None:
        """Let batches leave, because the answer is late."""
        watched.timer, watched.status.is_awaited = None, False
        self.answered(watched.destination.id)

    def _take(self, watched: _Watched, bus_status: BusStatus) -> None:
        """Act on an answer."""
        status, destination, now = watched.status, watched.destination, self._loop.time()
        if bus_status == "busy" and status.is_awaited:
            self._quota(destination).pause(now + _THROTTLED_SECS)
            self._ask(watched)
            return
        watched.cancel_timer()
        now_ms, before, swallowed = self._clock.now_ms(), status.missing, status.swallowed
        status.learn(bus_status, now, now_ms)
        if status.missing is not None:
            watched.timer = self._loop.call_later(status.pause_secs, self._check_again, watched)
            if before is None:
                self._observe(BusMissing(destination, status.missing, status.swallowed))
        elif before is not None:
            self._observe(BusFound(destination, max(0, now_ms - before.since_ms) / 1000, swallowed))
        self.answered(destination.id)

    def _check_again(self, watched: _Watched) -> None:
        watched.timer = None
        self._ask(watched)


def _is_same_bus(one: Destination, other: Destination) -> bool:
    return one.bus.arn == other.bus.arn and one.owner == other.owner
