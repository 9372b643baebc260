"""Duplicates: arrivals beyond one for an event and destination, each of which must have a reason. The bound.

A delivery ends in one arrival or one dead letter. It can end a second time only where what happened to it was
forgotten, and these are all the ways in which it can be:

* *Unknown*: the bus took the entry, and the worker never heard (reset after processing, reply later than the worker
  waits). The bus counts these itself. Each allows one more. On a machine that is too busy there are others: the worker
  had given the call up before the bus came to read it. Of those only the worker knows, so its attempts log is asked
  about every duplicate that has no other reason: an attempt without any reply allows one more.
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
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from tests.chaos.arrivals import UNANSWERED, Arrival, Arrivals
from tests.chaos.copies import Copy
from tests.chaos.disturbances import Disturbances
from tests.chaos.world import CONNECT_SECS, HOLD_SECS, READ_SECS, Place, World

Delivery = tuple[int, int]
"""Number of the event and slot of the destination."""
_WRITE_SECS: Final = 1.0
"""From the moment a copy is given to Kafka's client until it is settled."""
_OTHER_SECS: Final = HOLD_SECS + CONNECT_SECS + READ_SECS


class Duplicates(NamedTuple):
    """How often too often, how often that may be, and what has no reason."""

    arrivals: int
    letters: int
    unknown: int
    uncommitted: int
    unexplained: list[str]

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
        self._unknown: Counter[Delivery] = Counter()
        self._uncommitted: Counter[Delivery] = Counter()
        self.received = bytearray(2 * world.events)
        """Arrivals by number * 2 + slot, at most 255."""
        for index in range(len(arrivals)):
            self._note_arrival(arrivals[index])

    def note_copy(self, copy: Copy, *, is_letter: bool) -> None:
        """A dead letter or retry copy."""
        if copy.number is None:
            return
        delivery = (copy.number, copy.place.slot if copy.place is not None else 0)
        if is_letter:
            self._letters[delivery] += 1
        # The copy's own time is when it was given to Kafka's client; its worker is not known.
        if self._disturbances.cover(None, copy.at, copy.at + _WRITE_SECS + self._others_secs(delivery[0])):
            self._uncommitted[delivery] += 1

    def note_unanswered(self, attempts: Mapping[Delivery, int]) -> None:
        """How many attempts got no reply at all, for those who were asked about (see `suspects`)."""
        for delivery, unanswered in attempts.items():
            # Those that the bus knows of are among them, but for those of workers that were killed.
            self._unknown[delivery] = max(self._unknown[delivery], unanswered)

    def suspects(self) -> dict[Delivery, int]:
        """Deliveries that ended more often than can be explained, and how often that was."""
        ends = Counter({(i >> 1, i & 1): count for i, count in enumerate(self.received) if count > 1})
        for delivery, letters in self._letters.items():
            ends[delivery] = letters + self.received[2 * delivery[0] + delivery[1]]
        return {delivery: times for delivery, times in ends.items() if times > self._allowed(delivery)}

    def finish(self) -> Duplicates:
        """The result, when everything was noted."""
        suspects = self.suspects()
        told = self._tell(suspects)
        return Duplicates(
            arrivals=sum(count - 1 for count in self.received if count > 1),
            letters=sum(count - 1 for count in self._letters.values() if count > 1),
            unknown=self._unknown.total(),
            uncommitted=self._uncommitted.total(),
            unexplained=[self._line(delivery, times, told[delivery]) for delivery, times in suspects.items()],
        )

    def _note_arrival(self, arrival: Arrival) -> None:
        number, slot = arrival.number, arrival.slot
        self.received[2 * number + slot] = min(self.received[2 * number + slot] + 1, 255)
        if arrival.replied == UNANSWERED:
            self._unknown[number, slot] += 1
        elif self._disturbances.may_repeat(arrival, self._others_secs(number)):
            self._uncommitted[number, slot] += 1

    def _allowed(self, delivery: Delivery) -> int:
        return 1 + self._unknown[delivery] + self._uncommitted[delivery]

    def _others_secs(self, number: int) -> float:
        return _OTHER_SECS if len(self._world.wanted_by(number)) > 1 else 0.0

    def _tell(self, wanted: Collection[Delivery]) -> dict[Delivery, list[str]]:
        """When each of them arrived, and by whose call."""
        told: dict[Delivery, list[str]] = {delivery: [] for delivery in wanted}
        for index in range(len(self._arrivals) if wanted else 0):
            arrival = self._arrivals[index]
            if (arrival.number, arrival.slot) in told:
                text = f"worker {arrival.worker} at {arrival.received:.3f} (answered {arrival.replied:.3f})"
                told[arrival.number, arrival.slot].append(text)
        return told

    def _line(self, delivery: Delivery, times: int, told: list[str]) -> str:
        number, slot = delivery
        where = Place(self._world.customer_of[number], slot).id
        allowed = self._allowed(delivery)
        return f"event {number} to {where} ended {times} times, {allowed} can be explained: {'; '.join(told)}"
