"""Signals: events of the worker as values for observers. Observers cannot change its course."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pushrail_stream.core.outcome import Retryable

if TYPE_CHECKING:
    from pushrail_stream.core.batch import Flush
    from pushrail_stream.core.bus_status import MissingBus, Swallowed
    from pushrail_stream.core.copy import Copy
    from pushrail_stream.core.delivery import Delivery, Trigger
    from pushrail_stream.core.destination import Destination
    from pushrail_stream.core.event import Event
    from pushrail_stream.core.flood_guard import FloodReport
    from pushrail_stream.core.outcome import Outcome
    from pushrail_stream.core.record import Origin, Partition
    from pushrail_stream.core.retry import Decision


SkipReason = Literal["no_destination", "disabled", "paused", "filtered", "deleted"]
ResumeReason = Literal["delivered", "document", "idle"]
"""A probe was delivered; the document is gone or disabled; or no event came for a while, so that the next one is sent
as if there had been no suspension."""
RestartReason = Literal["recreated", "went_back"]
"""The topic was deleted and created again, or Kafka went back to an earlier offset because the log was cut off."""


CursorEnd = Literal["caught_up", "recreated", "went_back", "deleted"]
"""The cursor has reached the live reader; its events are gone, as `RestartReason` says; or its destination was deleted
or given to another customer."""


class Consumed(NamedTuple):
    """An event was decoded and routed, and its deliveries have begun, or cursors have them. Only observers that ask for
    it get it.
    """

    event: Event
    origin: Origin
    deliveries: int
    recorded_at_ms: int | None
    """Kafka timestamp of its record, epoch milliseconds; None when it has none."""
    at_ms: int


class EntryAttempted(NamedTuple):
    """One entry's part in a call. ``attempt`` counts from 1."""

    event: Event
    origin: Origin
    trigger: Trigger
    size: int
    attempt: int
    outcome: Outcome
    decision: Decision
    recorded_at_ms: int | None
    """Kafka timestamp of its record, or of its copy on a retry, epoch milliseconds; None when it has none."""
    replay_id: str | None = None


class Attempted(NamedTuple):
    """One call to a bus was made, or could not be made for want of credentials."""

    destination: Destination
    at_ms: int
    duration_secs: float
    http_status: int | None
    request_id: str | None
    deliveries: tuple[Delivery, ...]
    attempts: tuple[int, ...]
    """The number of attempts of each delivery, this one included. A delivery itself goes on and is attempted again."""
    outcomes: tuple[Outcome, ...]
    decisions: tuple[Decision, ...]
    flush: Flush = "time"

    @property
    def entries(self) -> list[EntryAttempted]:
        """The parts of the entries, made anew each time. Observers of every call use the fields above."""
        parts = zip(self.deliveries, self.attempts, self.outcomes, self.decisions, strict=True)
        return [
            EntryAttempted(
                delivery.event, delivery.record.origin, delivery.trigger, delivery.size, attempt, outcome, decision,
                delivery.record.recorded_at_ms, delivery.replay.id if delivery.replay else None,
            )
            for delivery, attempt, outcome, decision in parts
        ]  # fmt: skip

    @property
    def own_fault(self) -> Retryable | None:
        """The outcome, if the call failed as a whole for a fault of our own: all its entries then have the same."""
        outcome = self.outcomes[0]
        return outcome if isinstance(outcome, Retryable) and outcome.is_our_fault else None


class Skipped(NamedTuple):
    """An event is not sent to one destination, or to any."""

    event: Event
    origin: Origin
    destination_id: str | None
    bus: str | None
    """None when there is no destination, or no document."""
    reason: SkipReason
    trigger: Trigger
    at_ms: int
    replay_id: str | None = None


class DeadLettered(NamedTuple):
    """Kafka acknowledged a dead letter."""

    letter: Copy
    event: Event | None


class MovedToRetry(NamedTuple):
    """Kafka acknowledged a retry copy."""

    copy: Copy
    topic: str


class CopyFailed(NamedTuple):
    """A copy could not be written. Its offset stays uncommitted, and the write is repeated."""

    copy: Copy
    problem: str
    retry_in_secs: float


class Suspended(NamedTuple):
    """A destination is suspended: until a probe succeeds, its deliveries go to the DLQ without a call.

    This is sent when a suspension begins and after each failed probe.
    """

    destination: Destination
    code: str
    message: str
    probe_in_secs: float
    first: bool


class Resumed(NamedTuple):
    """A suspension ended."""

    destination: Destination
    suspended_secs: float
    why: ResumeReason = "delivered"


class BusMissing(NamedTuple):
    """The bus of a destination does not exist: its deliveries become dead letters."""

    destination: Destination
    bus: MissingBus
    swallowed: Swallowed | None
    """Deliveries that were reported as delivered after the bus was last seen; None when there are none."""


class BusFound(NamedTuple):
    """A bus that was missing exists again, or its role may not ask any more."""

    destination: Destination
    missing_secs: float
    swallowed: Swallowed | None
    """As in `BusMissing`. They can be sent again now."""


class Flooded(NamedTuple):
    """Most records would become dead letters: consuming has stopped until the worker is restarted."""

    report: FloodReport


class Slowed(NamedTuple):
    """A destination gets fewer calls than usual, or more than before."""

    destination: Destination
    in_flight: int
    """Calls that may be in flight now, the usual number at most."""
    most: int
    """The usual number."""


class Membership(NamedTuple):
    """A consumer has joined its group, with or without partitions, or has lost contact with it."""

    group: str
    active: bool


class PartitionsAssigned(NamedTuple):
    """The group assigned partitions. Each resumes at its offset (None: by ``auto.offset.reset``)."""

    partitions: tuple[tuple[Partition, int | None], ...]


class PartitionsRevoked(NamedTuple):
    """Partitions were revoked, or ``lost`` without a warning. ``dropped`` deliveries were abandoned."""

    partitions: tuple[Partition, ...]
    lost: bool
    dropped: int


class DocumentRefused(NamedTuple):
    """A destination document is refused. Its last good version, if there is one, stays in use."""

    document: str
    """Path of the file, or key of the record."""
    field: str
    """Dotted field (``auth.roleArn``); empty for the whole document."""
    problem: str
    """A sentence without values of the document."""

    def __str__(self) -> str:
        return ": ".join(filter(None, self))


class DocumentCaveat(NamedTuple):
    """A destination document is used, but the operator should know something about it."""

    document: str
    field: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(filter(None, self))


class SettingCaveat(NamedTuple):
    """The operator should know something about a setting. This is sent once, at the start."""

    setting: str
    problem: str


class OwnCredentialsFailed(NamedTuple):
    """Our own credentials cannot be used, so no role can be assumed. This is sent again after each check."""

    code: str
    message: str


class OwnCredentialsFound(NamedTuple):
    """Our own credentials work again, or no destination needs them any more."""


class RegistryChanged(NamedTuple):
    """Documents changed: the ids of destinations, and the numbers of documents in use and refused."""

    put: tuple[str, ...]
    removed: tuple[str, ...]
    good: int
    bad: int


class RegistryTrouble(NamedTuple):
    """The documents cannot be read at the moment. The last good ones stay in use."""

    problem: str


class RequestAnswered(NamedTuple):
    """A request to post events was answered."""

    status: int
    """HTTP status."""
    secs: float
    size: int
    """Bytes of its body that were read."""
    accepted: int
    """Events that Kafka has acknowledged."""
    rejected: int
    """Events that break a rule."""
    failed: int
    """Events that Kafka did not acknowledge."""
    vendor: str | None = None
    key_id: str | None = None
    trace_id: str | None = None
    problem: str = ""
    """The error, for operators."""


class ApiKeysChanged(NamedTuple):
    """The file of API keys was read again, or ``problem`` says why the earlier keys stay in use."""

    active: int
    problem: str = ""


class Backpressure(NamedTuple):
    """Consuming stopped because the worker's buffer is full, or resumed."""

    on: bool
    events: int
    bytes: int


class RecordsTrimmed(NamedTuple):
    """Kafka removed records before they were read, by retention or by hand. They will not be delivered.

    Among the offsets there may also be markers and aborted records.
    """

    partition: Partition
    expected: int
    """The first of the removed offsets."""
    first: int
    """The first offset after them."""


class PartitionUnread(NamedTuple):
    """Nothing is read from a partition that has more records: a batch cannot be read."""

    partition: Partition
    position: int | None
    """The next offset to read; None when nothing has been read yet."""
    secs: float
    """Seconds since the last progress."""


class OffsetsSkipped(NamedTuple):
    """An operator's order was carried out: the offsets from ``first`` to below ``end`` stay unread."""

    partition: Partition
    first: int
    end: int
    reason: str


class PartitionRestarted(NamedTuple):
    """A partition is read from an earlier offset, because its old position is not valid any more."""

    partition: Partition
    why: RestartReason
    position: int | None
    """The next offset before the restart; None when there was none."""


class CursorOpened(NamedTuple):
    """A destination has fallen behind on a partition, and is served from its own place in it from now on."""

    partition: Partition
    destination_id: str
    since: int
    """The first offset that the live reader does not deliver to it any more."""
    adopted: int
    """Deliveries that waited and belong to the cursor now."""


class CursorTrimmed(NamedTuple):
    """Events of a destination that was behind cannot be read any more: Kafka has removed them, or a batch is broken."""

    partition: Partition
    destination_id: str
    start: int
    end: int
    """The offset after the last one that cannot be read again."""
    known: int
    """Events among them that the cursor had named. The number of the others is not known."""


class CursorEndangered(NamedTuple):
    """Kafka may soon remove the events of a destination that is behind. They move to the last retry topic."""

    partition: Partition
    destination_id: str
    lowest: int
    """The first offset that is not delivered."""
    first: int
    """The first offset that Kafka still has."""


class CursorClosed(NamedTuple):
    """A destination's cursor on a partition has ended."""

    partition: Partition
    destination_id: str
    why: CursorEnd


class CommitFailed(NamedTuple):
    """Kafka refused a commit. The next one is tried a second later."""

    problem: str


class KafkaTrouble(NamedTuple):
    """Kafka's client reported an error from which it tries to recover."""

    problem: str


class FleetTrouble(NamedTuple):
    """Other programs cannot see or reach this worker through Kafka. Deliveries go on."""

    problem: str


class NoticesLost(NamedTuple):
    """Notices could not be written. Deliveries go on."""

    notices: int
    """Those lost since the start."""


Signal = (
    Consumed | Attempted | Skipped | DeadLettered | MovedToRetry | CopyFailed | Suspended | Resumed | Slowed
    | Flooded | BusMissing | BusFound | Membership | PartitionsAssigned | PartitionsRevoked | Backpressure
    | CommitFailed | KafkaTrouble | RecordsTrimmed | PartitionUnread | OffsetsSkipped | RequestAnswered
    | ApiKeysChanged | DocumentRefused | DocumentCaveat | RegistryChanged | RegistryTrouble | SettingCaveat
    | PartitionRestarted | CursorOpened | CursorTrimmed | CursorEndangered | CursorClosed
    | OwnCredentialsFailed | OwnCredentialsFound | FleetTrouble | NoticesLost
)  # fmt: skip
