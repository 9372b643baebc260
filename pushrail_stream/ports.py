"""What the pipeline needs from the world, as small protocols. The adapters above implement them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import Presence, Reply
from pushrail_stream.core.record import Headers, Partition
from pushrail_stream.core.signals import Signal


class Failed(Exception):  # noqa: N818 - it is the sentence a person reads
    """The worker cannot start or go on. The message tells people why and what to do."""


class TopicRecreated(Failed):
    """A topic was deleted and created again while it was read: the records read so far are the earlier topic's."""


@contextmanager
def failing_alone() -> Iterator[None]:
    """Let a `Failed` out of the group that a task group puts it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        failed, rest = group.split(Failed)
        if failed is None or rest is not None:
            raise
        raise _first(failed) from group


def _first(group: BaseExceptionGroup[Failed]) -> Failed:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Failed):
        raise TypeError("a group split by Failed holds only that")
    return error


class Bus(Protocol):
    """PutEvents, signed with the destination's own credentials."""

    async def put(self, batch: Batch) -> Reply:
        """One attempt. Never raises for anything AWS or the network does: that is a `CallFailed`."""

    async def sign_in(self, destination: Destination) -> bool:
        """Whether there are credentials to call with; signs in when there are none. Never raises, like `put`."""

    async def look(self, destination: Destination) -> Presence:
        """Whether the destination's bus exists. Never raises for anything AWS or the network does."""

    def forget(self, destination_id: str) -> None:
        """The destination's document is gone: drop its session, and all else that is known of how to call for it."""

    def renew_session(self, destination: Destination) -> bool:
        """The `put` that has just returned was refused for its session. Whether the next one has a newer session.

        False: that session was new already, so another one would be refused as well. Call it before anything else is
        awaited. A late refusal of a session that has been replaced changes nothing.
        """


class PublishError(Exception):
    """Kafka did not acknowledge a record. The message says why, for people."""


class Publisher(Protocol):
    """Writes records to Kafka: idempotent, acknowledged by all in-sync replicas."""

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once Kafka acknowledged the record; raise `PublishError` when it did not."""


class Outgoing(NamedTuple):
    """A record to be written."""

    key: bytes
    value: bytes
    headers: Headers


class Position(NamedTuple):
    """Where Kafka put a record."""

    partition: int
    offset: int


class TooLarge(NamedTuple):
    """Why a record cannot be written, now or later: it is larger than the topic takes, also compressed."""

    limit: int
    """The topic's ``max.message.bytes``, which count a batch as it is sent."""


class ClientStatistics(NamedTuple):
    """What librdkafka says of one client of Kafka, every few seconds."""

    brokers_up: int = 0
    rtt_secs: float = 0.0
    """Mean round trip to the slowest broker."""
    errors: int = 0
    """Requests that could not be sent or were not answered in time, and answers that could not be read."""
    queued: int = 0
    """Records fetched and not handed over, or handed over and not acknowledged."""
    rebalances: int = 0
    """Of a consumer's group, since the start."""


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


class Gate(Protocol):
    """Writes events to Kafka: idempotent, acknowledged by all in-sync replicas."""

    async def publish_all(self, records: Sequence[Outgoing]) -> Sequence[Position | str | TooLarge]:
        """Each record's position once Kafka has acknowledged it, or why it did not.

        Records that may be too large are written first, one after the other; after the first that fails nothing more.
        """

    async def check(self, timeout_secs: float) -> str:
        """Why events cannot be written at the moment, as far as asking tells; empty when they can."""


class SkipOrder(NamedTuple):
    """An operator has ordered that reading goes on at ``end``."""

    end: int
    reason: str


class SkipOrders(Protocol):
    """The orders of operators to step over what cannot be read."""

    async def at(self, partition: Partition, position: int) -> SkipOrder | None:
        """The order for a worker that cannot read on at ``position``; None where there is none. Raises `Failed`."""


class Directory(Protocol):
    """The destinations there are now."""

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        """All destinations of a customer, enabled or not, in a stable order."""

    def get(self, destination_id: str) -> Destination | None:
        """The current document of a destination; None when there is none (any more)."""


class DocumentChange(NamedTuple):
    """A destination document that is new, changed or gone (content None); ``problem``: why it cannot be read."""

    name: str
    """What it is called where it lies: a file, or a key of a topic."""
    content: bytes | None
    problem: str = ""


class DocumentStore(Protocol):
    """Where destination documents are kept, for commands that change them."""

    async def everything(self) -> Sequence[DocumentChange]:
        """Every document there is."""

    async def read(self, name: str) -> bytes | None:
        """A document as it is now; None when it is gone. Only after `everything`."""

    async def write(self, name: str, content: bytes | None) -> None:
        """Write a document, or delete it (None). Readers see the old one or the new, also after a crash."""


class Documents(Protocol):
    """Where destination documents come from."""

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document the first time, later what has changed; waits until something has."""


class Upkeep(Protocol):
    """Keeps a directory up to date."""

    async def start(self, observe: Observer) -> None:
        """Return when everything there is has been read."""

    async def keep(self, observe: Observer) -> None:
        """Follow what changes until cancelled."""


class KeyUnavailable(Exception):  # noqa: N818 - it is the sentence a person reads
    """What opens a sealed secret cannot be had now, and may be later. The message says why, without the secret."""


class MasterKey(Protocol):
    """Wraps the data keys that seal secrets. Each is bound to a context and unwraps with no other."""

    def new_data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        """A fresh data key of 32 bytes, plain and wrapped; raises `KeyUnavailable`."""

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
        """The data key; None when it was not wrapped by this key for this context. Raises `KeyUnavailable`."""


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
