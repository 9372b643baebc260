"""Bus status: the knowledge from checks whether one destination's bus exists.

A call to a bus that does not exist may succeed and drop its events, so deliveries that were made after the bus was last
seen may be lost although they are reported as delivered. They are counted until the bus is seen again. All times are
seconds of one monotonic clock; names with ``_ms`` are epoch milliseconds.

A suspension learns from calls instead (`core.suspension`) and ends with the lane; this knowledge lasts as long as the
document. The lane makes one state of both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, final

from pushrail_stream.core.outcome import BusStatus
from pushrail_stream.core.pacing import PROBES
from pushrail_stream.core.text import format_rfc3339, parse_rfc3339

CHECK_EVERY_SECS: Final = 600.0
"""Seconds between two checks of a bus in use that exists, or whose credentials do not allow checks."""
UNANSWERED_SECS: Final = 30.0
"""Seconds between two checks of a bus in use while the checks get no answer."""
FRESH_SECS: Final = 2 * CHECK_EVERY_SECS
"""Seconds after which an answer counts as none. An answer reaches this age only while nothing is sent."""
_FOREVER: Final = float("inf")
_UNSEEN: Final = "never"
_TEXT: Final = re.compile(r" does not exist(?: \(\w+\))?, missing since (\S+), last seen (\S+)$")

BusState = Literal["open", "awaited", "missing"]
"""``open``: the lane may send. ``awaited``: it waits for an answer. ``missing``: it gives up its deliveries."""


class MissingBus(NamedTuple):
    """A bus that a check did not find."""

    since_ms: int
    """Time at which it was found missing."""
    last_seen_ms: int | None
    """Time of the last check that found it; None when this worker never saw it."""

    def describe(self, bus: str) -> str:
        """The message of a dead letter."""
        last_seen = _UNSEEN if self.last_seen_ms is None else format_rfc3339(self.last_seen_ms)
        since = format_rfc3339(self.since_ms)
        return f"{bus} does not exist, missing since {since}, last seen {last_seen}"

    @classmethod
    def read(cls, message: str) -> MissingBus | None:
        """The values in a message that `describe` wrote; None for any other message."""
        match = _TEXT.search(message)
        if match is None:
            return None
        since_ms, last_seen_ms = parse_rfc3339(match[1]), parse_rfc3339(match[2])
        is_ours = since_ms is not None and (last_seen_ms is not None or match[2] == _UNSEEN)
        return cls(since_ms, last_seen_ms) if since_ms is not None and is_ours else None


class Swallowed(NamedTuple):
    """Deliveries to a missing bus that were reported as delivered after it was last seen."""

    deliveries: int
    first_ms: int
    """Time of the first of their calls."""
    until_ms: int
    """Just after the bus was found missing. All the calls were made before."""

    def replay_command(self, destination_id: str) -> str:
        """The command that sends exactly these events to the destination again."""
        since, until = format_rfc3339(self.first_ms), format_rfc3339(self.until_ms)
        return (
            f"pushrail-stream replay events --destination {destination_id} "
            f"--delivered-since {since} --delivered-until {until}"
        )


def explain(destination_id: str, bus: MissingBus, swallowed: Swallowed | None) -> str:
    """Describe for operators when the bus was last seen, and how to send the lost deliveries again."""
    seen = "it is not known when it was last seen"
    if bus.last_seen_ms is not None:
        seen = f"last seen {format_rfc3339(bus.last_seen_ms)}"
    if swallowed is None:
        return f"{seen}; nothing was reported as delivered since then"
    first = format_rfc3339(swallowed.first_ms)
    return (
        f"{seen}; {swallowed.deliveries} deliveries from {first} on were reported as delivered. Once the bus exists "
        f"again, send them again: {swallowed.replay_command(destination_id)}"
    )


@dataclass(slots=True)
class _Tally:
    """Deliveries, and the time of the first of their calls."""

    deliveries: int = 0
    first_ms: int = 0

    def add(self, deliveries: int, first_ms: int) -> None:
        if deliveries:
            self.first_ms = min(self.first_ms, first_ms) if self.deliveries else first_ms
            self.deliveries += deliveries


@final
class BusChecks:
    """The answers about one bus, and the deliveries since it was last seen."""

    __slots__ = (
        "_asked_ms", "_check_at", "_failed_probes", "_fresh_until", "_seen_ms", "_taken", "_taken_since", "is_awaited",
        "missing",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_awaited = True
        """Whether batches wait for an answer."""
        self.missing: MissingBus | None = None
        self._check_at = float("-inf")
        """Time at which the next check is due; infinity while a check is in progress."""
        self._fresh_until = _FOREVER
        self._failed_probes = 0
        """Further checks in a row that did not find the missing bus."""
        self._seen_ms: int | None = None
        self._asked_ms: int | None = None
        """Time at which the check in progress was sent."""
        self._taken = _Tally()
        """Deliveries since the bus was last seen, by calls that were made before the check in progress was sent."""
        self._taken_since = _Tally()
        """Deliveries by calls that were made after the check in progress was sent."""

    @property
    def state(self) -> BusState:
        """The state that the lane acts on."""
        if self.is_awaited:
            return "awaited"
        return "open" if self.missing is None else "missing"

    @property
    def pause_secs(self) -> float:
        """Seconds until the next check of a missing bus, with or without traffic."""
        return PROBES.pause_secs(self._failed_probes + 1)

    @property
    def swallowed(self) -> Swallowed | None:
        """The deliveries that the missing bus may have swallowed; None when there are none, or while it exists."""
        if self.missing is None or not self._taken.deliveries:
            return None
        return Swallowed(self._taken.deliveries, self._taken.first_ms, self.missing.since_ms + 1)

    def is_due(self, now: float) -> bool:
        """Whether a check is due, now that there is something to send. Batches wait when the last answer is too old."""
        if now < self._check_at:
            return False
        self.is_awaited = self.is_awaited or self._fresh_until <= now
        return True

    def begin_check(self) -> None:
        """Begin a check. No other check is due until its answer."""
        self._check_at = _FOREVER

    def note_sent(self, now_ms: int) -> None:
        """Note that the check was sent."""
        self._asked_ms = now_ms

    def check_again(self) -> None:
        """Let the next batch wait for a check, because the bus is reached in another way."""
        self.is_awaited, self._check_at, self._asked_ms = True, float("-inf"), None
        self._merge()

    def count_delivered(self, deliveries: int, at_ms: int) -> None:
        """Count deliveries of a call that was made at this time."""
        if self._seen_ms is None or at_ms >= self._seen_ms:
            is_since = self._asked_ms is not None and at_ms >= self._asked_ms
            (self._taken_since if is_since else self._taken).add(deliveries, at_ms)

    def learn(self, bus_status: BusStatus, now: float, now_ms: int) -> None:
        """Learn from the answer to a check."""
        self.is_awaited = False
        asked_ms, self._asked_ms = self._asked_ms, None
        if bus_status == "there":
            self._seen_ms, self._taken, self._taken_since = asked_ms, self._taken_since, _Tally()
            self._found(now)
            self._fresh_until = now + FRESH_SECS
            return
        self._merge()
        self._fresh_until = _FOREVER
        if bus_status == "denied":
            self._found(now)
        elif bus_status == "gone" and self.missing is None:
            self.missing = MissingBus(now_ms, self._seen_ms)
        elif bus_status == "gone":
            self._failed_probes += 1
        elif self.missing is None:
            self._check_at = now + UNANSWERED_SECS

    def _found(self, now: float) -> None:
        """The bus exists, or its role may not ask."""
        if self.missing is not None:
            self.missing, self._failed_probes, self._taken = None, 0, _Tally()
        self._check_at = now + CHECK_EVERY_SECS

    def _merge(self) -> None:
        self._taken.add(self._taken_since.deliveries, self._taken_since.first_ms)
        self._taken_since = _Tally()
