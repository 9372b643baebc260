"""Outages: destinations whose calls fail as a whole, one after the other, get one call at a time.

Server errors, lost connections and time-outs are such failures. After several in a row the destination is down. Then a
pause follows each call, and each pause is longer than the one before. The first answer ends that.

When several destinations of one endpoint are down and none of the endpoint's calls is answered, the endpoint is down.
Then single calls probe it for all destinations that have failed, with the same pauses from one to the next. A
destination without a failure makes its calls all the same: no customer waits because of others. All times are seconds
of one monotonic clock.
"""

from __future__ import annotations

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


@final
class Endpoint:
    """The address that the calls to many destinations go to, and those of its destinations that are down."""

    __slots__ = ("_down", "_probes", "probe_at")

    def __init__(self) -> None:
        self._down: set[Outage] = set()
        """The destinations that went down, or failed again, since the last answer."""
        self._probes = 0
        self.probe_at = float("-inf")
        """Time from which a destination that has failed may probe the endpoint, while this is down."""

    @property
    def is_down(self) -> bool:
        """Whether several destinations are down, and no call was answered since."""
        return len(self._down) >= SEVERAL

    def probe(self, now: float) -> None:
        """A destination that has failed makes a call."""
        self._probes += 1
        self.probe_at = now + PAUSES.pause_secs(self._probes)

    def note_down(self, outage: Outage) -> None:
        """A destination is down."""
        self._down.add(outage)

    def answered(self) -> None:
        """A call to one of the destinations was answered."""
        if self._down:
            self._down.clear()
            self._probes, self.probe_at = 0, float("-inf")

    def forget(self, outage: Outage) -> None:
        """Nothing is known about this destination any more."""
        self._down.discard(outage)


@final
class Outage:
    """Whether one destination is down."""

    __slots__ = ("_endpoint", "_is_probing", "_pauses", "_probe_at", "failures")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.failures = 0
        """Calls in a row that failed as a whole."""
        self._pauses = 0
        self._probe_at = float("-inf")
        self._is_probing = False
        """Whether the call in flight began while the destination was down."""

    @property
    def is_down(self) -> bool:
        """Whether one call may be in flight at a time."""
        return self.failures > 0 and (self.failures >= DOWN_AFTER or self._endpoint.is_down)

    @property
    def is_of_endpoint(self) -> bool:
        """Whether it is down together with its endpoint."""
        return self.failures > 0 and self._endpoint.is_down

    @property
    def next_call_at(self) -> float:
        """No call is made before this time."""
        if not self.is_down:
            return float("-inf")
        return max(self._probe_at, self._endpoint.probe_at) if self._endpoint.is_down else self._probe_at

    def called(self, now: float) -> None:
        """A call begins."""
        self._is_probing = self.is_down
        if self._is_probing and self._endpoint.is_down:
            self._endpoint.probe(now)

    def failed(self, now: float) -> None:
        """A call failed as a whole. One that began before the destination was down tells nothing new."""
        if self.is_down and not self._is_probing:
            return
        self.failures += 1
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

    def forget(self) -> None:
        """Begin anew, because the bus is reached in another way, or is said to be back."""
        self._endpoint.forget(self)
        self.failures = self._pauses = 0
        self._probe_at = float("-inf")
        self._is_probing = False

    def move(self, endpoint: Endpoint) -> None:
        """Begin anew at this endpoint."""
        self.forget()
        self._endpoint = endpoint
