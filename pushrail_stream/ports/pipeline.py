"""What the pipeline calls: the bus, Kafka's producer, the directory of destinations, the clock and its observers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import BusStatus, Reply
from pushrail_stream.core.record import Headers, Partition
from pushrail_stream.core.signals import Signal
from pushrail_stream.errors import OperatorError


class Bus(Protocol):
    """PutEvents, signed with the destination's own credentials."""

    async def put(self, batch: Batch) -> Reply:
        """One attempt. Never raises for anything AWS or the network does: that is a `CallFailed`."""

    async def sign_in(self, destination: Destination) -> bool:
        """Whether there are credentials to call with; signs in when there are none. Never raises, like `put`."""

    async def look(self, destination: Destination) -> BusStatus:
        """Whether the destination's bus exists. Never raises for anything AWS or the network does."""

    def forget(self, destination_id: str) -> None:
        """The destination's document is gone: drop its session, and all else that is known of how to call for it."""

    def renew_session(self, destination: Destination) -> bool:
        """The `put` that has just returned was refused for its session. Whether the next one has a newer session.

        False: that session was new already, so another one would be refused as well. Call it before anything else is
        awaited. A late refusal of a session that has been replaced changes nothing.
        """


class PublishError(OperatorError):
    """Kafka did not acknowledge a record. The message says why, for people."""


class Publisher(Protocol):
    """Writes records to Kafka: idempotent, acknowledged by all in-sync replicas."""

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not."""


class SkipOrder(NamedTuple):
    """An operator has ordered that reading goes on at ``end``."""

    end: int
    reason: str


class SkipOrders(Protocol):
    """The orders of operators to step over what cannot be read."""

    async def at(self, partition: Partition, position: int) -> SkipOrder | None:
        """The order for a worker that cannot read on at ``position``, if there is one. Raises `OperatorError`."""


class Directory(Protocol):
    """The destinations there are now."""

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        """All destinations of a customer, enabled or not, in a stable order."""

    def get(self, destination_id: str) -> Destination | None:
        """The current document of a destination; None when there is none (any more)."""


class Clock(Protocol):
    """Wall time, for what is written down. Waiting goes by the event loop's monotonic time."""

    def now_ms(self) -> int:
        """Epoch milliseconds."""


class Jitter(Protocol):
    """Randomness for backoff."""

    def __call__(self) -> float:
        """A number in [0, 1)."""


class Observer(Protocol):
    """Is told what happened. It must be quick and must not raise; what it raises is logged and ignored."""

    def __call__(self, signal: Signal) -> None:
        """See one signal."""


class SignIns(NamedTuple):
    """Credentials got and not got since the start."""

    refreshed: int = 0
    """Sessions that were opened or renewed."""
    failed: int = 0
    """Wanted and not got: nothing can be sent without."""
    kept: int = 0
    """A renewal failed and the session it should have replaced is used on."""
    sts_calls: int = 0
    sts_failures: int = 0


class Incident(NamedTuple):
    """Something that went wrong, for people."""

    at_ms: int
    what: str
    where: str
    """Destination, document or partition; "" where there is none."""
    code: str
    message: str
