"""Duplicates: arrivals beyond one for an event and destination, each of which must have a reason. The bound.

A delivery ends in one arrival or one dead letter. It can end a second time only where what happened to it was
forgotten, and these are all the ways in which it can be:

* *Unknown*: the bus took the entry, and the worker never heard (reset after processing, reply later than the worker
  waits). The bus counts these itself. Each allows one more.
* *Uncommitted*: an arrival, a dead letter or a retry copy that had happened, but whose offset was not yet committed
  when its worker was killed, lost its membership (SIGSTOP beyond the session time-out), or could not commit because
  the broker was away. Workers commit once a second, a rebalance can refuse one commit, and a busy broker takes its
  time to acknowledge: what was finished `disturbances.UNCOMMITTED_SECS` before is safe. Everything that happened later,
  or was under way, may happen once more. (A retry copy counts as an arrival does: the copy is there, and the original
  is read again.)
* An offset is settled when *all* destinations of its event are. Where there are two, the first to receive the event
  may receive it again for as long as the other waits in its lane, that is `world.HOLD_SECS` and one call longer.

For a rebalance, SIGTERM, a worker that joins, nothing is allowed: workers drain, and commit what has settled.

So for every event and destination: arrivals + dead letters <= 1 + unknown + uncommitted, each an actual arrival or copy
of that very delivery. The sum of the last two over all deliveries is the bound that is reported.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from tests.chaos.arrivals import UNANSWERED, Arrivals
from tests.chaos.copies import Copy
from tests.chaos.disturbances import Disturbances
from tests.chaos.world import CONNECT_SECS, HOLD_SECS, READ_SECS, World

Delivery = tuple[int, int]
"""Number of the event and slot of the destination."""
_OTHER_SECS: Final = HOLD_SECS + CONNECT_SECS + READ_SECS


class Duplicates(NamedTuple):
    """How often too often, how often that may be, and what has no reason."""

    arrivals: int
    letters: int
    unknown: int
    uncommitted: int
    unexplained: dict[Delivery, str]
    """Why each of these is too often, in a line."""

    @property
    def bound(self) -> int:
        """As many arrivals and letters may be beyond one for each delivery."""
        return self.unknown + self.uncommitted


class Audit:
    """Counts, and finds a reason for each."""

    def __init__(self, world: World, arrivals: Arrivals, disturbances: Disturbances) -> None:
        self._world = world
        self._arrivals = arrivals
        self._disturbances = disturbances
        self._letters: Counter[Delivery] = Counter()
        self._uncommitted: Counter[Delivery] = Counter()
        self._told: dict[Delivery, list[str]] = {}
        self.received = bytearray(2 * world.events)
        """Arrivals by number * 2 + slot, at most 255."""
        for number, slot in zip(arrivals.numbers, arrivals.slots, strict=True):
            index = 2 * number + slot
            if self.received[index] < 255:
                self.received[index] += 1

    def note_copy(self, copy: Copy, *, is_letter: bool) -> None:
        """A dead letter or retry copy."""
        if copy.number is None:
            return
        delivery = (copy.number, copy.place.slot if copy.place is not None else 0)
        if is_letter:
            self._letters[delivery] += 1
        # The copy's own time is when it was given to Kafka's client; its worker is not known.
        if self._disturbances.cover(None, copy.at, copy.at + 1.0 + self._others_secs(delivery[0])):
            self._uncommitted[delivery] += 1

    def finish(self) -> Duplicates:
        """The result, when every copy was noted."""
        unknown_by: Counter[Delivery] = Counter()
        uncommitted_by = self._uncommitted.copy()
        for index in range(len(self._arrivals)):
            arrival = self._arrivals[index]
            if arrival.replied == UNANSWERED:
                unknown_by[arrival.number, arrival.slot] += 1
            elif self._disturbances.may_repeat(arrival, self._others_secs(arrival.number)):
                uncommitted_by[arrival.number, arrival.slot] += 1
        unexplained = [
            (delivery, times, allowed)
            for delivery, times in self._repeated().items()
            if times > (allowed := 1 + unknown_by[delivery] + uncommitted_by[delivery])
        ]
        self._tell({delivery for delivery, _, _ in unexplained})
        return Duplicates(
            arrivals=sum(count - 1 for count in self.received if count > 1),
            letters=sum(count - 1 for count in self._letters.values() if count > 1),
            unknown=unknown_by.total(),
            uncommitted=uncommitted_by.total(),
            unexplained={one[0]: self._line(*one) for one in unexplained},
        )

    def _others_secs(self, number: int) -> float:
        return _OTHER_SECS if len(self._world.wanted_by(number)) > 1 else 0.0

    def _repeated(self) -> Counter[Delivery]:
        """Deliveries that ended more than once, and how often."""
        ends = Counter({(i >> 1, i & 1): count for i, count in enumerate(self.received) if count > 1})
        for delivery, letters in self._letters.items():
            ends[delivery] = letters + self.received[2 * delivery[0] + delivery[1]]
        return Counter({delivery: times for delivery, times in ends.items() if times > 1})

    def _tell(self, wanted: set[Delivery]) -> None:
        if not wanted:
            return
        for index in range(len(self._arrivals)):
            arrival = self._arrivals[index]
            if (arrival.number, arrival.slot) in wanted:
                text = f"worker {arrival.worker} at {arrival.received:.3f} (answered {arrival.replied:.3f})"
                self._told.setdefault((arrival.number, arrival.slot), []).append(text)

    def _line(self, delivery: Delivery, times: int, allowed: int) -> str:
        number, slot = delivery
        told = "; ".join(self._told.get(delivery, []))
        where = f"dst_{self._world.customer_of[number]}_{slot}"
        return f"event {number} to {where} ended {times} times, {allowed} can be explained: {told}"
