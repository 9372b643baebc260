"""Duplicates: arrivals beyond one for an event and destination, each of which must have a reason. The bound.

A delivery ends in one arrival or one dead letter. It can end a second time only where what happened to it was
forgotten, and these are all the ways in which it can be:

* *Unknown*: the bus took the entry, and the worker never heard (reset after processing, reply later than the worker
  waits). The bus counts these itself. Each allows one more. On a machine that is too busy there are others: the worker
  had given the call up before the bus came to read it. Of those only the worker knows, so its attempts log is asked
  about every duplicate that has no other reason: an attempt without any reply allows one more.
* *Uncommitted*: an arrival, a dead letter or a retry copy that had happened, while no acknowledged commit covered the
  record it came from, when its worker was killed, lost its membership (SIGSTOP beyond the session time-out, or a
  machine too busy for heartbeats, which its log tells), or lost the broker. Which commits had been acknowledged is
  Kafka's to say (`commits`), not the worker's. Everything that was not covered may happen once more. (A retry copy
  counts as an arrival does: the copy is there, and the original is read again. A record is covered when the deliveries
  to *all* destinations of its event have settled, or are on a cursor that the commit names. The delivery of a cursor is
  covered when the cursor that the commit names has it no more.)

For a rebalance, SIGTERM, a worker that joins, nothing is allowed: workers drain, and commit what has settled.

So take what happened to one event and destination in order of time. Up to every moment,

    arrivals + dead letters <= 1 + unknown or uncommitted arrivals, dead letters and retry copies *before* it

where a worker that was stopped while others got its partitions may also be late itself. The number of all unknown and
uncommitted ones is the bound that is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.chaos.arrivals import UNANSWERED, Arrival, Arrivals
from tests.chaos.commits import Commits, Position
from tests.chaos.copies import Copy
from tests.chaos.disturbances import Disturbances
from tests.chaos.world import CONNECT_SECS, READ_SECS, TOPICS, Place, World

Delivery = tuple[int, int]
"""Number of the event and slot of the destination."""
_CALL_SECS: Final = CONNECT_SECS + READ_SECS


@dataclass(frozen=True)
class Evidence:
    """The facts of a finished run."""

    arrivals: Arrivals
    copies: Sequence[Copy]
    """Dead letters and retry copies."""
    commits: Commits
    disturbances: Disturbances
    position: Callable[[int], Position]
    """The position of the event with this number."""


class Duplicates(NamedTuple):
    """The number of duplicates, their bound, and the duplicates without a reason."""

    classic: int
    """Arrivals at classic buses."""
    v2: int
    """Arrivals at buses of eventbridgev2, which keep a repeat once for 300 seconds."""
    letters: int
    unknown: int
    uncommitted: int
    unexplained: list[str]

    @property
    def arrivals(self) -> int:
        """Those of both kinds."""
        return self.classic + self.v2

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

    def __init__(self, world: World, evidence: Evidence) -> None:
        self._world = world
        self._evidence = evidence
        self._acts: dict[Delivery, list[Act]] = {}
        self._letters: Counter[Delivery] = Counter()
        self._sources: dict[Delivery, list[Copy]] = {}
        self._unknown = 0
        self._uncommitted = 0
        arrivals = evidence.arrivals
        self.received = bytearray(2 * world.events)
        """Arrivals by number * 2 + slot, at most 255."""
        for number, slot in zip(arrivals.numbers, arrivals.slots, strict=True):
            self.received[2 * number + slot] = min(self.received[2 * number + slot] + 1, 255)
        self._note_copies(evidence.copies)
        for index in range(len(arrivals)):
            self._note_arrival(arrivals[index])

    def note_unanswered(self, attempts: Mapping[Delivery, Iterable[float]]) -> None:
        """When attempts were made that got no reply at all, for those that were asked about (see `suspects`)."""
        for delivery, moments in attempts.items():
            acts = self._acts[delivery]
            for moment in moments:
                taken = next((i for i, a in enumerate(acts) if a.unanswered and 0 <= a.at - moment < _CALL_SECS), None)
                if taken is None:
                    self._unknown += 1
                else:  # the bus has counted it; but the delivery may come again from when the call was made
                    acts[taken] = acts[taken]._replace(repeated=False, unanswered=False)
                acts.append(Act(moment, ends=False, repeated=True, stray=False, told=f"no reply {moment:.3f}"))

    def suspects(self) -> list[Delivery]:
        """Deliveries that ended more often than can be explained."""
        return [delivery for delivery, acts in self._acts.items() if not _is_explained(acts)]

    def finish(self) -> Duplicates:
        """The result, when everything was noted."""
        by_kind: Counter[bool] = Counter()
        for index, count in enumerate(self.received):
            if count > 1:
                by_kind[self._place(divmod(index, 2)).is_v2] += count - 1
        return Duplicates(
            classic=by_kind[False],
            v2=by_kind[True],
            letters=sum(count - 1 for count in self._letters.values() if count > 1),
            unknown=self._unknown,
            uncommitted=self._uncommitted,
            unexplained=[self._line(delivery) for delivery in self.suspects()],
        )

    def _note_copies(self, copies: Iterable[Copy]) -> None:
        known = [(delivery, copy) for copy in copies if (delivery := _delivery(copy)) is not None]
        for delivery, copy in known:
            if copy.position.topic == TOPICS["dlq"]:
                self._letters[delivery] += 1
            else:
                self._sources.setdefault(delivery, []).append(copy)
        for delivery, copy in known:
            # The copy's time is when it was given to Kafka's client; whose it is, is not known.
            repeated, stray = self._may_repeat(delivery, 0, copy.at)
            self._uncommitted += repeated
            ends = copy.position.topic == TOPICS["dlq"]
            self._remember(delivery, Act(copy.at, ends, repeated, stray, f"{copy.reason} {copy.at:.3f}"))

    def _note_arrival(self, arrival: Arrival) -> None:
        number, slot, worker, at, replied = arrival
        told = f"arrived {at:.3f} from worker {worker or '?'}, answered {replied:.3f}"
        if replied == UNANSWERED:
            self._unknown += 1
            act = Act(at, ends=True, repeated=True, stray=False, told=told, unanswered=True)
        else:
            repeated, stray = self._may_repeat((number, slot), worker, at)
            self._uncommitted += repeated
            act = Act(at, ends=True, repeated=repeated, stray=stray, told=told)
        self._remember((number, slot), act)

    def _remember(self, delivery: Delivery, act: Act) -> None:
        """Only where it can matter: nearly all deliveries end once."""
        if self.received[2 * delivery[0] + delivery[1]] + self._letters[delivery] > 1:
            self._acts.setdefault(delivery, []).append(act)

    def _may_repeat(self, delivery: Delivery, worker: int, at: float) -> tuple[bool, bool]:
        """Whether what happened then may happen again, and whether it may itself be a repetition."""
        repeated = stray = False
        for loss in self._evidence.disturbances.of(worker):
            if at <= loss.until and not self._is_covered(delivery, at, loss.at):
                repeated = True
                stray = stray or (loss.stray and at >= loss.at)
        return repeated, stray

    def _is_covered(self, delivery: Delivery, at: float, moment: float) -> bool:
        """Whether every record that this can have come from was known to be settled at that moment."""
        commits, destination_id = self._evidence.commits, self._place(delivery).id
        return commits.cover(self._evidence.position(delivery[0]), moment, destination_id) and all(
            commits.cover(copy.position, moment, destination_id)
            for copy in self._sources.get(delivery, ())
            if copy.at < at
        )

    def _place(self, delivery: Delivery) -> Place:
        number, slot = delivery
        return Place(self._world.customer_of[number], slot)

    def _line(self, delivery: Delivery) -> str:
        acts = sorted(self._acts[delivery])
        told = "; ".join(f"{act.told}{' (may be repeated)' if act.repeated else ''}" for act in acts)
        return f"event {delivery[0]} to {self._place(delivery).id}: {told}"


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
