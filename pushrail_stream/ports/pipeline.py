"""Protocols that the pipeline calls: the bus, the publisher, the directory, the clock and the observers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import BusStatus, Reply
from pushrail_stream.core.record import Headers, Partition
from pushrail_stream.core.signals import Signal
from pushrail_stream.core.skips import Skip
from pushrail_stream.errors import OperatorError


class Bus(Protocol):
    """The way to destinations' buses. It knows their protocol and signs with each destination's own credentials."""

    def limits(self, destination: Destination) -> CallLimits:
        """The most that one call to the destination's bus carries. Asked per delivery: the answer must cost nothing."""

    def size(self, event: Event, destination: Destination) -> int:
        """Bytes of the event's entry, as this bus counts them. Asked per delivery, before the entry is rendered."""

    async def put(self, batch: Batch, *, refreshed: bool) -> Reply:
        """Make one call with the batch; every failure of the bus or the network is an outcome, never an exception.

        ``refreshed``: the call is made again because the one before was refused for stale credentials.
        """

    def is_our_fault(self, code: str) -> bool:
        """Whether a delivery waits for a retry by our own fault when its last attempt failed with this code."""

    def must_sign_in(self, destination: Destination) -> bool:
        """Whether a call now would sign in first. It is asked before each call, so it must be cheap."""

    async def sign_in(self, destination: Destination, *, patient: bool = False) -> bool:
        """Return whether there are credentials to call with; sign in when there are none. Never raises, like `put`.

        ``patient``: wait for the turn of this sign-in, however long that takes. Otherwise too many others make it fail.
        """

    async def check(self, destination: Destination) -> BusStatus:
        """Return whether the destination's bus exists. Never raises, like `put`."""

    def quota(self, destination: Destination) -> str:
        """Name the account whose quota a `check` at the destination's bus uses up."""

    def forget(self, destination_id: str) -> None:
        """Drop the session and everything else that is known of a destination whose document is gone."""


class PublishError(OperatorError):
    """Kafka did not acknowledge a record. The message says why, for people."""


class Publisher(Protocol):
    """Writes records to Kafka: idempotent, acknowledged by all in-sync replicas."""

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not."""


FindSkip = Callable[[Partition, int], Awaitable[Skip | None]]
"""Returns the operator's order for a worker that cannot read on at this offset, if any. Raises `OperatorError`."""


class Directory(Protocol):
    """The present destinations."""

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        """All destinations of a customer, enabled or not, in a stable order."""

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id; None if there is none."""


class Clock(Protocol):
    """Wall time, for timestamps. Waits use the event loop's monotonic time."""

    def now_ms(self) -> int:
        """Epoch milliseconds."""


Jitter = Callable[[], float]
"""Randomness for backoff: returns a number in [0, 1)."""
Observer = Callable[[Signal], None]
"""Receives signals. It must be quick and must not raise; an exception is logged and ignored."""


class SignIns(NamedTuple):
    """Numbers of sessions since the start."""

    refreshed: int = 0
    """Sessions that were opened or renewed."""
    failed: int = 0
    """Sessions that could not be opened: nothing can be sent without one."""
    kept: int = 0
    """Renewals that failed while the old session was still valid: it stays in use."""
    sts_calls: int = 0
    sts_failures: int = 0
