"""The tally: an observer of the worker that knows what was produced and notes what became of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple, final

from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.record import Origin
from pushrail_stream.core.signals import Attempted, DeadLettered, PartitionsAssigned, Signal, Skipped

Kind = Literal["delivered", "dead", "skipped"]


class Fate(NamedTuple):
    """How a delivery ended."""

    kind: Kind
    reason: str = ""


class Delivery(NamedTuple):
    """The duty to bring one event to one place: a destination's id, or the customer's where there is none."""

    place: str
    key: str


@final
class Tally:
    """Implements `ports.Observer`. Lives on the event loop."""

    def __init__(self) -> None:
        self.assigned = asyncio.Event()
        """The worker has its partitions."""
        self.fates: dict[Delivery, Fate] = {}
        self.broken: set[Origin] = set()
        """Records that were dead-lettered as no events."""
        self.repeated: Counter[str] = Counter()
        """Deliveries confirmed more than once, by place."""
        self.acknowledged: list[tuple[Origin, float]] = []
        """When AWS's confirmation of a delivery came, epoch milliseconds."""
        self.call_ms: list[float] = []
        """How long each PutEvents call took that delivered something."""
        self._open: set[Delivery] = set()
        self._open_broken = 0

    def expect(self, deliveries: Iterable[Delivery]) -> None:
        """An event was produced for these places."""
        self._open |= set(deliveries) - self.fates.keys()

    def expect_broken(self) -> None:
        """A record was produced that is no event."""
        self._open_broken += 1

    @property
    def waiting(self) -> int:
        """What has no end yet."""
        return len(self._open) + max(0, self._open_broken - len(self.broken))

    def missing(self) -> list[Delivery]:
        """Deliveries that have no end yet."""
        return sorted(self._open)

    def __call__(self, signal: Signal) -> None:
        """See one signal."""
        match signal:
            case Attempted():
                self._attempted(signal)
            case Skipped(event=event, destination_id=destination_id, reason=reason):
                place = destination_id or event.customer_external_id
                self._end(Delivery(place, event.idempotency_key), Fate("skipped", reason))
            case DeadLettered(letter=letter, event=None):
                self.broken.add(letter.record.origin)
            case DeadLettered(letter=letter, event=event) if event is not None:
                place = letter.destination_id or event.customer_external_id
                self._end(Delivery(place, event.idempotency_key), Fate("dead", letter.reason))
            case PartitionsAssigned():
                self.assigned.set()
            case _:
                pass

    def _attempted(self, signal: Attempted) -> None:
        taken = [entry for entry in signal.entries if isinstance(entry.outcome, Delivered)]
        if taken:
            self.call_ms.append(signal.duration_secs * 1000)
        confirmed_at = signal.at_ms + signal.duration_secs * 1000
        for entry in taken:
            self.acknowledged.append((entry.origin, confirmed_at))
            self._end(Delivery(signal.destination.id, entry.event.idempotency_key), Fate("delivered"))

    def _end(self, delivery: Delivery, fate: Fate) -> None:
        if delivery in self.fates:
            self.repeated[delivery.place] += 1
        self.fates[delivery] = fate
        self._open.discard(delivery)
