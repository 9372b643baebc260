"""The tally of a run: an observer of the worker that notes how each produced event ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal, NamedTuple, final

from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.record import Origin
from pushrail_stream.core.signals import Attempted, DeadLettered, PartitionsAssigned, Signal, Skipped

Kind = Literal["delivered", "dead", "skipped"]


class Ending(NamedTuple):
    """The end of a delivery."""

    kind: Kind
    reason: str = ""


class Delivery(NamedTuple):
    """One event to one place: a destination's id, or the customer's where it has no destination."""

    place: str
    key: str


@final
class Tally:
    """Implements `ports.Observer`. Lives on the event loop."""

    def __init__(self) -> None:
        self.assigned = asyncio.Event()
        """Set once the worker has its partitions."""
        self.endings: dict[Delivery, Ending] = {}
        self.undecodable: set[Origin] = set()
        self.acknowledged: list[tuple[Origin, float]] = []
        """Each confirmed delivery and the time of its confirmation in epoch milliseconds."""
        self.call_ms: list[float] = []
        """The duration of each PutEvents call that delivered something."""
        self._expected: set[Delivery] = set()
        self._expected_undecodable = 0

    def expect(self, deliveries: Iterable[Delivery]) -> None:
        """Expect an end of these deliveries."""
        self._expected |= set(deliveries) - self.endings.keys()

    def expect_undecodable(self) -> None:
        """Expect the dead letter of a record that is not an event."""
        self._expected_undecodable += 1

    @property
    def waiting(self) -> int:
        """The number of expected ends that are missing."""
        return len(self._expected) + max(0, self._expected_undecodable - len(self.undecodable))

    def missing(self) -> list[Delivery]:
        """Return the deliveries without an end."""
        return sorted(self._expected)

    def __call__(self, signal: Signal) -> None:
        """Note the ends that a signal tells of."""
        match signal:
            case Attempted():
                self._note_attempt(signal)
            case Skipped(event=event, destination_id=destination_id, reason=reason):
                place = destination_id or event.customer_external_id
                self._note(Delivery(place, event.idempotency_key), Ending("skipped", reason))
            case DeadLettered(letter=letter, event=None):
                self.undecodable.add(letter.record.origin)
            case DeadLettered(letter=letter, event=event) if event is not None:
                place = letter.destination_id or event.customer_external_id
                self._note(Delivery(place, event.idempotency_key), Ending("dead", letter.reason))
            case PartitionsAssigned():
                self.assigned.set()
            case _:
                pass

    def _note_attempt(self, signal: Attempted) -> None:
        confirmed = [entry for entry in signal.entries if isinstance(entry.outcome, Delivered)]
        if confirmed:
            self.call_ms.append(signal.duration_secs * 1000)
        confirmed_at = signal.at_ms + signal.duration_secs * 1000
        for entry in confirmed:
            self.acknowledged.append((entry.origin, confirmed_at))
            self._note(Delivery(signal.destination.id, entry.event.idempotency_key), Ending("delivered"))

    def _note(self, delivery: Delivery, ending: Ending) -> None:
        self.endings[delivery] = ending
        self._expected.discard(delivery)
