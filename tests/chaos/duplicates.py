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

So take what happened to one event and destination in order of time. Up to every moment,

    arrivals + dead letters <= 1 + unknown or uncommitted ones and retry copies *before* it

where a worker that was stopped while others got its partitions may also be late itself. The number of all unknown and
uncommitted ones is the bound that is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from tests.chaos.arrivals import UNANSWERED, Arrival, Arrivals
from tests.chaos.copies import Copy
from tests.chaos.disturbances import Disturbances
from tests.chaos.world import CONNECT_SECS, HOLD_SECS, READ_SECS, Place, World

Delivery = tuple[int, int]
"""Number of the event and slot of the destination."""
_WRITE_SECS: Final = 1.0
"""From the moment a copy is given to Kafka's client until it is settled."""
_CALL_SECS: Final = CONNECT_SECS + READ_SECS
_OTHER_SECS: Final = HOLD_SECS + _CALL_SECS


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


class Act(NamedTuple):
    """One thing that happened to a delivery. ``ends``: it arrived or became a dead letter."""

    at: float
    ends: bool
    repeated: bool
    """Whether the delivery may come again after it."""
    stray: bool
    """Whether it may come although the delivery had ended."""
    told: str
    unanswered: bool = False
    """Whether it was taken and the worker never heard."""


class Audit:
    """Counts, and finds a reason for each."""

    def __init__(self, world: World, arrivals: Arrivals, letters: Iterable[Copy], disturbances: Disturbances) -> None:
        self._world = world
        self._disturbances = disturbances
        self._acts: dict[Delivery, list[Act]] = {}
        self._letters: Counter[Delivery] = Counter()
        self._unknown = 0
        self._uncommitted = 0
        self.received = bytearray(2 * world.events)
        """Arrivals by number * 2 + slot, at most 255."""
        for number, slot in zip(arrivals.numbers, arrivals.slots, strict=True):
            self.received[2 * number + slot] = min(self.received[2 * number + slot] + 1, 255)
        for letter in letters:
            if (delivery := _delivery(letter)) is not None:
                self._letters[delivery] += 1
                self._note_copy(delivery, letter, ends=True)
        for index in range(len(arrivals)):
            self._note_arrival(arrivals[index])

    def note_retry(self, copy: Copy) -> None:
        """A retry copy."""
        if (delivery := _delivery(copy)) is not None:
            self._note_copy(delivery, copy, ends=False)

    def note_unanswered(self, attempts: Mapping[Delivery, Iterable[float]]) -> None:
        """When attempts were made that got no reply at all, for those that were asked about (see `suspects`)."""
        for delivery, moments in attempts.items():
            acts = self._acts[delivery]
            for moment in moments:
                known = any(act.unanswered and 0 <= act.at - moment < _CALL_SECS for act in acts)
                if not known:
                    self._unknown += 1
                    acts.append(Act(moment, ends=False, repeated=True, stray=False, told=f"no reply {moment:.3f}"))

    def suspects(self) -> list[Delivery]:
        """Deliveries that ended more often than can be explained."""
        return [delivery for delivery, acts in self._acts.items() if not _is_explained(acts)]

    def finish(self) -> Duplicates:
        """The result, when everything was noted."""
        return Duplicates(
            arrivals=sum(count - 1 for count in self.received if count > 1),
            letters=sum(count - 1 for count in self._letters.values() if count > 1),
            unknown=self._unknown,
            uncommitted=self._uncommitted,
            unexplained=[self._line(delivery) for delivery in self.suspects()],
        )

    def _note_arrival(self, arrival: Arrival) -> None:
        act = self._act(arrival)
        if arrival.replied == UNANSWERED:
            self._unknown += 1
        else:
            self._uncommitted += act.repeated
        delivery = arrival.number, arrival.slot
        if delivery in self._letters or self.received[2 * arrival.number + arrival.slot] > 1:
            self._acts.setdefault(delivery, []).append(act)

    def _act(self, arrival: Arrival) -> Act:
        _, _, worker, start, end = arrival
        told = f"arrived {start:.3f} from worker {worker or '?'}, answered {end:.3f}"
        if end == UNANSWERED:
            return Act(start, ends=True, repeated=True, stray=False, told=told, unanswered=True)
        end += self._others_secs(arrival.number)
        stray = self._disturbances.stray(worker, start, end)
        repeated = stray or self._disturbances.forgotten(worker, start, end)
        return Act(start, ends=True, repeated=repeated, stray=stray, told=told)

    def _note_copy(self, delivery: Delivery, copy: Copy, *, ends: bool) -> None:
        # The copy's time is when it was given to Kafka's client; whose it is, is not known.
        end = copy.at + _WRITE_SECS + self._others_secs(delivery[0])
        stray = self._disturbances.stray(0, copy.at, end)
        repeated = stray or self._disturbances.forgotten(0, copy.at, end)
        self._uncommitted += repeated
        if ends or delivery in self._acts:
            act = Act(copy.at, ends, repeated, stray, f"{copy.reason} {copy.at:.3f}")
            self._acts.setdefault(delivery, []).append(act)

    def _others_secs(self, number: int) -> float:
        return _OTHER_SECS if len(self._world.wanted_by(number)) > 1 else 0.0

    def _line(self, delivery: Delivery) -> str:
        number, slot = delivery
        acts = sorted(self._acts[delivery])
        told = "; ".join(f"{act.told}{' (may be repeated)' if act.repeated else ''}" for act in acts)
        return f"event {number} to {Place(self._world.customer_of[number], slot).id}: {told}"


def _is_explained(acts: list[Act]) -> bool:
    ended, allowed = 0, 1
    for act in sorted(acts):
        allowed += act.stray
        ended += act.ends
        if ended > allowed:
            return False
        allowed += act.repeated and not act.stray
    return True


def _delivery(copy: Copy) -> Delivery | None:
    return None if copy.number is None else (copy.number, copy.place.slot if copy.place is not None else 0)
