"""Signals: what happened, as frozen values, for observers. Observers cannot change the course."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pushrail_stream.core.dead_letter import DeadLetter
from pushrail_stream.core.delivery import Trigger
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import Outcome
from pushrail_stream.core.record import Origin, Partition
from pushrail_stream.core.retry import Decision

SkipReason = Literal["no_destination", "disabled", "filtered", "deleted"]


class EntryAttempted(NamedTuple):
    """One entry's part in an attempt. ``attempt`` counts from 1."""

    event: Event
    origin: Origin
    size: int
    attempt: int
    outcome: Outcome
    decision: Decision


class Attempted(NamedTuple):
    """One PutEvents call was made, or could not be made for want of credentials."""

    destination: Destination
    trigger: Trigger
    at_ms: int
    duration_secs: float
    http_status: int | None
    request_id: str | None
    entries: tuple[EntryAttempted, ...]


class Skipped(NamedTuple):
    """An event is not sent to a destination, or to any."""

    event: Event
    origin: Origin
    destination: Destination | None
    reason: SkipReason
    at_ms: int


class DeadLettered(NamedTuple):
    """Kafka acknowledged a dead letter."""

    letter: DeadLetter
    event: Event | None


class DeadLetterFailed(NamedTuple):
    """A dead letter could not be written; its offset stays uncommitted and the write is tried again."""

    letter: DeadLetter
    problem: str
    retry_in_secs: float


class PartitionsAssigned(NamedTuple):
    """The group gave us partitions; the offsets are where each resumes (None: by ``auto.offset.reset``)."""

    partitions: tuple[tuple[Partition, int | None], ...]


class PartitionsRevoked(NamedTuple):
    """Partitions were given back (``lost``: taken away without asking). ``dropped`` deliveries were left unsent."""

    partitions: tuple[Partition, ...]
    lost: bool
    dropped: int


class Held(NamedTuple):
    """Consuming stopped (or went on again) because the worker holds as much as it may."""

    on: bool
    events: int
    bytes: int


class CommitFailed(NamedTuple):
    """Kafka refused a commit; the next tick tries again."""

    problem: str


class KafkaTrouble(NamedTuple):
    """The Kafka client reported an error it goes on trying to mend."""

    problem: str


Signal = (
    Attempted | Skipped | DeadLettered | DeadLetterFailed | PartitionsAssigned | PartitionsRevoked | Held
    | CommitFailed | KafkaTrouble
)  # fmt: skip
