"""Signals: what happened, as frozen values, for observers. Observers cannot change the course."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pushrail_stream.core.batch import Flush
from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Trigger
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.outcome import Outcome, Retryable
from pushrail_stream.core.record import Origin, Partition
from pushrail_stream.core.retry import Decision

SkipReason = Literal["no_destination", "disabled", "filtered", "deleted"]
RestartReason = Literal["recreated", "went_back"]
"""The topic was deleted and created again, or Kafka went back to an earlier offset because the log was cut off."""


class Consumed(NamedTuple):
    """An event was decoded and routed; its deliveries have begun. Told only to who asks for it: it comes per event."""

    event: Event
    origin: Origin
    deliveries: int
    recorded_at_ms: int | None
    """Epoch milliseconds of its record's Kafka timestamp; None when it has none."""
    at_ms: int


class EntryAttempted(NamedTuple):
    """One entry's part in an attempt. ``attempt`` counts from 1."""

    event: Event
    origin: Origin
    trigger: Trigger
    size: int
    attempt: int
    outcome: Outcome
    decision: Decision
    recorded_at_ms: int | None
    """Epoch milliseconds of its record's Kafka timestamp, on a retry its copy's; None when it has none."""
    replay_id: str | None = None


class Attempted(NamedTuple):
    """One call to a bus was made, or could not be made for want of credentials."""

    destination: Destination
    at_ms: int
    duration_secs: float
    http_status: int | None
    request_id: str | None
    entries: tuple[EntryAttempted, ...]
    flush: Flush = "time"

    @property
    def own_fault(self) -> Retryable | None:
        """The outcome, if the call failed as a whole for a fault of our own: all its entries then have the same."""
        outcome = self.entries[0].outcome
        return outcome if isinstance(outcome, Retryable) and outcome.ours else None


class Skipped(NamedTuple):
    """An event is not sent to a destination, or to any."""

    event: Event
    origin: Origin
    destination_id: str | None
    bus: str | None
    """None for want of a destination, or of its document."""
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
    """A dead letter or retry copy could not be written; its offset stays uncommitted, the write is tried again."""

    copy: Copy
    problem: str
    retry_in_secs: float


class Suspended(NamedTuple):
    """A destination blocks what is sent to it: until a probe gets through, its deliveries go to the DLQ unsent.

    Said when it begins and after every probe in vain.
    """

    destination: Destination
    code: str
    message: str
    probe_in_secs: float
    first: bool


class Resumed(NamedTuple):
    """A suspended destination took a delivery, or its document is gone."""

    destination: Destination
    suspended_secs: float


class BusMissing(NamedTuple):
    """The bus of a destination does not exist: its deliveries are dead-lettered instead of vanishing."""

    destination: Destination
    bus: MissingBus
    swallowed: Swallowed | None
    """Deliveries that were reported as delivered after the bus was last seen; None when there are none."""


class BusFound(NamedTuple):
    """A bus that was gone exists again, or may do so: its role may ask no more."""

    destination: Destination
    missing_secs: float
    swallowed: Swallowed | None
    """As in `BusMissing`: they can be sent again now."""


class Flooded(NamedTuple):
    """Most records would become dead letters: consuming has stopped until the worker is started anew."""

    report: FloodReport


class Slowed(NamedTuple):
    """A destination throttled or failed, or it recovered, which changes how many calls may be in flight to it."""

    destination: Destination
    in_flight: int
    most: int


class Membership(NamedTuple):
    """A consumer takes part in its group, if only by waiting for partitions; or it lost touch with it."""

    group: str
    active: bool


class PartitionsAssigned(NamedTuple):
    """The group gave us partitions; the offsets are where each resumes (None: by ``auto.offset.reset``)."""

    partitions: tuple[tuple[Partition, int | None], ...]


class PartitionsRevoked(NamedTuple):
    """Partitions were given back (``lost``: taken away without asking). ``dropped`` deliveries were left unsent."""

    partitions: tuple[Partition, ...]
    lost: bool
    dropped: int


class DocumentRefused(NamedTuple):
    """A destination document is not used as it stands; its last good version, if there was one, is."""

    document: str
    field: str
    problem: str


class DocumentCaveat(NamedTuple):
    """A destination document is used, with something the operator should know."""

    document: str
    field: str
    problem: str


class SettingCaveat(NamedTuple):
    """The process runs with a setting that the operator should know something about. Said once, at the start."""

    setting: str
    problem: str


class RegistryChanged(NamedTuple):
    """Destinations were put or removed (by id); so many are in use now, and so many documents are not."""

    put: tuple[str, ...]
    removed: tuple[str, ...]
    good: int
    bad: int


class RegistryTrouble(NamedTuple):
    """The documents cannot be read at the moment: the last good ones stay."""

    problem: str


class RequestAnswered(NamedTuple):
    """A request to post events was answered."""

    status: int
    """HTTP status."""
    secs: float
    size: int
    """Bytes of its body, as far as it was read."""
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
    """What was wrong, for people."""


class ApiKeysChanged(NamedTuple):
    """The file of API keys was read anew; or ``problem`` says why the keys before stay in use."""

    active: int
    problem: str


class Backpressure(NamedTuple):
    """Consuming stopped (or went on again) because the worker holds as much as it may."""

    on: bool
    events: int
    bytes: int


class RecordsTrimmed(NamedTuple):
    """Kafka has removed records before they were read, by retention or by hand; nobody will deliver them.

    Markers and aborted records among the offsets cannot be told from records once they are gone.
    """

    partition: Partition
    expected: int
    """The first of the offsets that are gone: the next one to read."""
    first: int
    """The first offset after them that is still there."""


class PartitionUnread(NamedTuple):
    """Nothing is read from a partition although its end is ahead: something there cannot be read."""

    partition: Partition
    position: int | None
    """The next offset to read; None where nothing has been read yet."""
    secs: float
    """For how long."""


class OffsetsSkipped(NamedTuple):
    """An operator's order was carried out: the offsets from ``first`` to below ``end`` are left unread."""

    partition: Partition
    first: int
    end: int
    reason: str


class PartitionRestarted(NamedTuple):
    """A partition is read again from an earlier offset: its old position names nothing any more."""

    partition: Partition
    why: RestartReason
    position: int | None
    """The next offset before; None where there was none."""


class CommitFailed(NamedTuple):
    """Kafka refused a commit; the next tick tries again."""

    problem: str


class KafkaTrouble(NamedTuple):
    """The Kafka client reported an error it goes on trying to mend."""

    problem: str


Signal = (
    Consumed | Attempted | Skipped | DeadLettered | MovedToRetry | CopyFailed | Suspended | Resumed | Slowed
    | Flooded | BusMissing | BusFound | Membership | PartitionsAssigned | PartitionsRevoked | Backpressure
    | CommitFailed | KafkaTrouble | RecordsTrimmed | PartitionUnread | OffsetsSkipped | RequestAnswered
    | ApiKeysChanged | DocumentRefused | DocumentCaveat | RegistryChanged | RegistryTrouble | SettingCaveat
    | PartitionRestarted
)  # fmt: skip
