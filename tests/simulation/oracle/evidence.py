"""Evidence: everything of a story that can be seen from outside, as values in the order of virtual time.

Times are virtual seconds. A host's name is empty when the world itself acted: a producer, a customer or an operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.core.record import Origin, Partition, Record
from pushrail_stream.core.retry import Fault
from pushrail_stream.core.signals import Signal
from pushrail_stream.settings.model import Settings

UNHEALED: Final = float("inf")
"""Time at which the world heals, while that is unknown."""
METRICS_PAGE: Final = "metrics page"
STATUS_PAGE: Final = "status page"
"""Places of a `Text`."""
Cause = Fault | Literal["moment"]
"""The party that caused a failure; ``moment``: it may pass by itself."""


class Violation(NamedTuple):
    """A broken promise."""

    assertion: str
    sentence: str
    at: float = 0.0


@dataclass(slots=True)
class Written:
    """A record of a topic."""

    at: float
    record: Record
    host: str = ""
    acknowledged_at: float | None = None
    """The time at which its producer's client got the acknowledgement."""
    is_readable: bool = True
    """Whether a consumer can read it: not when its transaction was aborted, or its batch is damaged."""
    gone_at: float | None = None
    """The time at which Kafka lost or removed it."""
    readable_at: float | None = None
    """The time from which consumers could read it, when an open transaction before it had held it back."""
    epoch: int = 0
    """The leader epoch in which it was written."""

    @property
    def visible_at(self) -> float:
        """The time from which consumers can read it."""
        return self.at if self.readable_at is None else self.readable_at

    @property
    def origin(self) -> Origin:
        """Its own position."""
        return self.record.origin


class Commit(NamedTuple):
    """A commit that the coordinator accepted."""

    at: float
    group: str
    partition: Partition
    topic_id: str | None
    committable: Committable
    host: str = ""
    epoch: int = -1
    """The leader epoch of the record before the offset; -1: it names none, as a tool's."""


class Entry(NamedTuple):
    """One entry of a call to PutEvents, and the truth about it."""

    detail: bytes
    resources: tuple[str, ...]
    event_id: str | None
    """The id that the bus gave it; None when the bus refused it."""
    code: str = ""
    fault: Cause | None = None
    """The cause of the refusal; or of an entry's loss at a bus that does not exist, although AWS took it."""
    is_repeat: bool = False
    """Whether a bus of eventbridgev2 had it already, and kept it once: it did not come to the customer again."""
    is_cloud_event: bool = False
    """Whether it came as a CloudEvent, made of the event in `detail`."""

    @property
    def key(self) -> str:
        """The idempotency key, as the entry names it."""
        return self.resources[1] if len(self.resources) > 1 else ""

    @property
    def is_swallowed(self) -> bool:
        """Whether AWS took it for a bus that does not exist. A check of the bus may tell a worker so in time."""
        return self.event_id is not None and self.fault is not None

    def is_taken_despite(self, code: str | None) -> bool:
        """Whether the bus took it, so that a worker that reports this code is wrong."""
        return self.event_id is not None and not (self.is_swallowed and code == BUS_NOT_FOUND)


@dataclass(slots=True)
class Call:
    """One call that reached AWS."""

    at: float
    host: str
    api: str
    target: str
    """The ARN of the bus or of the role."""
    request_id: str = ""
    status: int | None = None
    """None when no answer was made."""
    entries: tuple[Entry, ...] = ()
    answered_at: float | None = None
    """The time at which the host had the whole answer; None when it was lost or cut off."""
    fault: Cause | None = None
    """The cause of the failure of the whole call."""
    code: str = ""
    """The error code of the whole call."""
    is_garbled: bool = False
    """Whether the answer is not as AWS made it. It may say anything, the truth among it."""
    access_key: str = ""
    """The id of the key that signed the call."""

    @property
    def is_good(self) -> bool:
        """Whether the call did all that it asked for, and its host knows it."""
        return self.is_clear and self.status == 200 and all(entry.event_id for entry in self.entries)

    @property
    def entries_taken(self) -> int:
        """The number of entries that AWS confirmed."""
        return sum(entry.event_id is not None for entry in self.entries)

    @property
    def is_clear(self) -> bool:
        """Whether its host has the answer that AWS made."""
        return self.answered_at is not None and not self.is_garbled


DisturbanceKind = Literal[
    "killed", "paused", "expelled", "failed", "kafka", "commit", "operator", "log", "clock", "start"
]  # fmt: skip
"""``killed``: SIGKILL. ``paused``: SIGSTOP to SIGCONT. ``expelled``: the group dropped the member. ``failed``: the
process ended with an error. ``kafka``: brokers or the network failed. ``commit``: a commit was refused or its answer
lost. ``operator``: offsets were moved by a tool. ``log``: Kafka lost records or a topic. ``clock``: a wall clock
jumped. ``start``: a worker joined or left."""


class Disturbance(NamedTuple):
    """A trouble that is no customer's."""

    at: float
    until: float
    kind: DisturbanceKind
    host: str = ""
    """Empty: it concerns every host."""
    partition: Partition | None = None
    """None: it concerns every partition."""


class WorkerEnd(NamedTuple):
    """The end of a worker's process."""

    at: float
    host: str
    worker: str
    how: Literal["killed", "stopped", "refused", "failed"]
    """``refused``: with an error for operators, such as a topic that is missing."""
    problem: str = ""
    ledger: Mapping[str, int] | None = None
    """The columns of `core.ledger.Ledger` at the end of a worker that was asked to stop."""


class Text(NamedTuple):
    """A text that left the product: a log line, a metrics page, an error."""

    at: float
    host: str
    where: str
    text: str


class SignalSeen(NamedTuple):
    """A signal of a worker to its observers. It tells the interesting states, and proves nothing."""

    at: float
    host: str
    signal: Signal


class DocumentEdit(NamedTuple):
    """A change of a destination document; None deletes it."""

    at: float
    name: str
    content: bytes | None


class CheckedDelivery(NamedTuple):
    """One delivery in the result of `check`."""

    status: str
    origin: Origin
    destination: str | None


class CheckRun(NamedTuple):
    """One finished run of `check` over all events since the story's beginning."""

    at: float
    ended_at: float
    deliveries: tuple[CheckedDelivery, ...]
    events: int | None = None
    """The number of events that it reports."""


class ReplayRun(NamedTuple):
    """One replay that ended without an error."""

    at: float
    ended_at: float
    replay: str
    """Its id."""
    chosen: int
    """The number of deliveries that it reports."""


@dataclass
class Evidence:
    """All of a story."""

    settings: Settings
    epoch: float = 0.0
    """Epoch seconds of the virtual time 0."""
    written: list[Written] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    worker_ends: list[WorkerEnd] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    edits: list[DocumentEdit] = field(default_factory=list)
    checks: list[CheckRun] = field(default_factory=list)
    signals: list[SignalSeen] = field(default_factory=list)
    raised: list[Text] = field(default_factory=list)
    """Errors that no port and no task may raise."""
    secrets: set[str] = field(default_factory=set)
    replays: list[ReplayRun] = field(default_factory=list)
    log_ends: dict[tuple[Partition, str | None], int] = field(default_factory=dict)
    """The end of each partition's log when the story ended, by partition and topic id."""
    created: dict[str, float] = field(default_factory=dict)
    """By topic id the time at which the topic was created."""
    heard_of: dict[str, float] = field(default_factory=dict)
    """By topic id the time by which every broker knew the topic."""
    unguarded: set[str] = field(default_factory=set)
    """The hosts of workers whose flood guard is off."""
    retries_asked_for: bool = False
    """Whether an operator began retries ahead of their time."""
    has_kafka_weather: bool = False
    """Whether requests to Kafka may fail or take long at any time before the world heals."""
    broken_buses: set[str] = field(default_factory=set)
    """ARNs of the buses that refuse calls even after the world has healed."""
    healed_at: float = UNHEALED
    ended_at: float = 0.0

    def on(self, topic: str) -> list[Written]:
        """The records of a topic, in the order of their writing."""
        return [one for one in self.written if one.record.topic == topic]

    @property
    def begun_at(self) -> float:
        """The time at which the first worker began, if one did."""
        return min((one.at for one in self.disturbances if one.kind == "start"), default=float("-inf"))

    @property
    def retry_topics(self) -> tuple[str, ...]:
        """The retry topics, the shortest wait first."""
        return tuple(self.settings.topics.retry)


def position_of(origin: Origin) -> str:
    """A record's place, for people."""
    return f"{origin}" if origin.topic_id is None else f"{origin} of topic {origin.topic_id}"
