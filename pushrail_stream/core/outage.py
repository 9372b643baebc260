"""Outages: destinations whose calls fail as a whole, one after the other, get one call at a time.

Server errors, lost connections and time-outs are such failures. After several in a row the destination is down. Then a
pause follows each call, and each pause is longer than the one before. The first answer ends that.

When several destinations of one endpoint are down, or the calls of many fail, and none of the endpoint's calls is
answered, the endpoint is down. Then single calls probe it for all its destinations, with the same pauses from one to
the next. The first answer ends that. Customers whose own buses fail keep no others waiting: a destination whose last
call was answered goes on, with one call at a time, and those that have made no call yet make one each, one after the
other in short steps. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final, final

from pushrail_stream.core.pacing import Backoff

DOWN_AFTER: Final = 8
"""Failed calls in a row after which a destination is down: as many as a new destination has in flight. Of a bus that
fails every second call, one row in 256 is that long."""
SEVERAL: Final = 3
"""Destinations that are down when their endpoint counts as down. Two may have an owner in common, and so a cause."""
PAUSES: Final = Backoff(0.2, 2.0)
"""Seconds after each failed call to a destination that is down, and from one probe of an endpoint to the next. The
shortest is that of the first retry. The longest is what an outage that has ended may cost more."""


_MANY: Final = 8
"""Failing destinations that show, without any one being down, that their endpoint is down. Most destinations have few
events, and so few calls."""
_MANY_FAILURES: Final = SEVERAL * DOWN_AFTER
"""Failed calls of these, in a row: as many as when several destinations are down."""
_FIRST_CALL_SECS: Final = 0.02
"""Seconds from the first call of one destination to that of the next, while their endpoint is down. A region of 10,000
destinations then costs 50 failed calls a second. Their calls all at once took 5 s of a processor, for which the
customers of other regions waited."""
_TOGETHER: Final = 100
"""Destinations of an endpoint that may wake at the same moment, while it is down, to see which of them probes it."""
_SPREAD_SECS: Final = 0.0008
"""Seconds by which each destination above `_TOGETHER` lengthens the time over which all of them wake. When the endpoint
is back, so many calls begin in turn: a processor makes about 1,500 small calls in a second. With 0.0005, connections
could not be made in time, and their calls failed again."""
_MOST_SPREAD_SECS: Final = 10.0
"""Longest time over which they wake, in seconds, so an outage that has ended costs at most so much more."""
_GOLDEN: Final = 0.618034
"""The fractional parts of multiples of the golden ratio are spread evenly, however many there are."""


@final
class Endpoint:
    """The address that the calls to many destinations go to, and those of its destinations that are down."""

    __slots__ = (
        "_down", "_failed", "_failed_at", "_failures", "_first_calls", "_next_first_at", "_probes", "_turns", "failing",
        "probe_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self._down: set[Outage] = set()
        """The destinations that went down, or failed again, since the last answer."""
        self._failed: set[Outage] = set()
        """The destinations of which a call has failed since the last answer."""
        self._failures = 0
        """Calls that have failed since then."""
        self._failed_at = -math.inf
        """Time of the last of them."""
        self._first_calls: dict[Outage, float] = {}
        """The destinations that wait for their first call while the endpoint is down, and its time."""
        self._next_first_at = -math.inf
        """Earliest time for the next of these calls."""
        self._probes = 0
        self.probe_at = -math.inf
        """Time from which a destination may probe the endpoint, while this is down."""
        self._turns = 0
        self.failing = 0
        """Destinations whose last call failed."""

    @property
    def is_down(self) -> bool:
        """Whether several destinations are down, or calls of many have failed, and none was answered since."""
        return len(self._down) >= SEVERAL or (self._failures >= _MANY_FAILURES and len(self._failed) >= _MANY)

    def turn(self) -> float:
        """A destination's part of the time over which the destinations wake, from 0 to below 1."""
        self._turns += 1
        return self._turns * _GOLDEN % 1

    def probe_at_of(self, turn: float) -> float:
        """Time from which the destination with this turn may probe the endpoint: thousands do not wake at once."""
        further = self.failing + len(self._first_calls) - _TOGETHER
        return self.probe_at if further <= 0 else self.probe_at + turn * min(further * _SPREAD_SECS, _MOST_SPREAD_SECS)

    def first_call_at(self, outage: Outage) -> float:
        """Time from which a destination that has made no call may make its first one while the endpoint is down."""
        at = self._first_calls.get(outage)
        if at is None:
            at = self._first_calls[outage] = max(self._next_first_at, self._failed_at)
            self._next_first_at = at + _FIRST_CALL_SECS
        return at

    def called(self, outage: Outage, now: float) -> None:
        """A destination makes a call while the endpoint is down: its first one, or a probe for all."""
        if now < self._first_calls.pop(outage, math.inf):
            self._probes += 1
            self.probe_at = now + PAUSES.pause_secs(self._probes)

    def note_failure(self, outage: Outage, now: float) -> None:
        """A call to one of the destinations failed as a whole."""
        self._failed.add(outage)
        self._failures += 1
        self._failed_at = now

    def note_down(self, outage: Outage) -> None:
        """A destination is down."""
        self._down.add(outage)

    def answered(self) -> None:
        """A call to one of the destinations was answered."""
        if self._failures:
            self._down.clear()
            self._failed.clear()
            self._first_calls.clear()
            self._failures, self._probes = 0, 0
            self.probe_at = self._next_first_at = -math.inf

    def forget(self, outage: Outage) -> None:
        """Nothing is known about this destination any more."""
        self._down.discard(outage)
        self._failed.discard(outage)
        self._first_calls.pop(outage, None)


@final
class Outage:
    """Whether one destination is down."""

    __slots__ = ("_endpoint", "_is_answered", "_is_probing", "_pauses", "_probe_at", "_turn", "failures")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._turn = endpoint.turn()
        self.failures = 0
        """Calls in a row that failed as a whole."""
        self._pauses = 0
        self._probe_at = -math.inf
        self._is_probing = False
        """Whether the call in flight began while the destination was down."""
        self._is_answered = False
        """Whether its last call was answered. Then the failures of others say nothing about it."""

    @property
    def is_down(self) -> bool:
        """Whether one call may be in flight at a time."""
        return self.failures >= DOWN_AFTER or (self._endpoint.is_down and not self._is_answered)

    @property
    def is_endpoint_down(self) -> bool:
        """Whether its endpoint is down. Then it makes one call at a time, also when its last one was answered."""
        return self._endpoint.is_down

    @property
    def next_call_at(self) -> float:
        """No call is made before this time."""
        endpoint = self._endpoint
        if not self.is_down:
            return -math.inf
        if not endpoint.is_down:
            return self._probe_at
        probe_at = max(self._probe_at, endpoint.probe_at_of(self._turn))
        return probe_at if self.failures else min(endpoint.first_call_at(self), probe_at)

    def called(self, now: float) -> None:
        """A call begins."""
        self._is_probing = self.is_down
        if self._is_probing and self._endpoint.is_down:
            self._endpoint.called(self, now)

    def failed(self, now: float) -> None:
        """A call failed as a whole. One that began before the destination was down tells nothing new."""
        if self.failures and self.is_down and not self._is_probing:
            return
        self._is_answered = False
        self._endpoint.failing += self.failures == 0
        self.failures += 1
        self._endpoint.note_failure(self, now)
        if self.failures >= DOWN_AFTER:
            self._endpoint.note_down(self)
        if self.is_down:
            self._pauses += 1
            self._probe_at = now + PAUSES.pause_secs(self._pauses)

    def answered(self) -> None:
        """A call was answered, or refused with a reason."""
        self._endpoint.answered()
        if self.failures:
            self.forget()
        self._is_answered = True

    def forget(self) -> None:
        """Begin anew, because the bus is reached in another way, or is said to be back."""
        self._endpoint.forget(self)
        self._endpoint.failing -= self.failures > 0
        self.failures = self._pauses = 0
        self._probe_at = -math.inf
        self._is_probing = self._is_answered = False

    def move(self, endpoint: Endpoint) -> None:
        """Begin anew at this endpoint."""
        self.forget()
        self._endpoint = endpoint
