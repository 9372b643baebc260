"""Statistics of one worker at one moment, as values for the metrics, the status page and the readiness check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import BusMissing
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import SignIns


class DispatcherStats(NamedTuple):
    """Numbers of destinations, calls and deliveries."""

    active: int = 0
    """Destinations with a lane: deliveries wait or are in flight, or a state is remembered."""
    suspended: int = 0
    slowed: int = 0
    gone: int = 0
    """Destinations whose bus does not exist."""
    calls: int = 0
    """Calls in flight, to all buses."""
    waiting: int = 0
    """Deliveries that wait in lanes."""


class DestinationStats(NamedTuple):
    """One destination."""

    destination_id: str
    state: DestinationState
    waiting: int
    """Deliveries in its lane."""
    calls: int
    """Calls in flight."""
    max_calls: int
    """Calls that may be in flight now."""
    per_second: float
    """Deliveries a second over the last few seconds."""
    errors_per_second: float = 0.0
    """Failed attempts of a delivery a second over the last few seconds."""
    last_error: str = ""
    """Code of the last of them; empty when there was none."""
    oldest_secs: float = 0.0
    """Seconds for which the oldest delivery in its lane has waited."""


class BacklogStats(NamedTuple):
    """The events that a destination which has fallen behind has still to get, in this worker's partitions."""

    destination_id: str
    cursors: int
    """Partitions on which it is behind."""
    since_ms: int
    """Epoch milliseconds since which it has been behind."""
    waiting: int
    """Events that were read and are not delivered."""
    unread: int
    """Offsets not read yet. Some hold other destinations' events, so it is an upper bound of the unread events."""
    oldest_at_ms: int
    """Record time of its oldest event, or of an earlier one; epoch milliseconds."""
    per_second: float
    """Deliveries a second over the last few seconds."""
    catch_up_secs: float | None
    """Seconds until nothing is left, as fast as the backlog shrinks now; None while it does not, or is new."""

    @property
    def events(self) -> int:
        """The most events that the destination has still to get."""
        return self.waiting + self.unread


class PartitionStats(NamedTuple):
    """One assigned partition."""

    partition: Partition
    open_records: int
    """Records that are not settled, early ones included."""
    open_bytes: int
    oldest_at_ms: int | None
    """Kafka timestamp of the first record that is not settled, epoch milliseconds."""
    committed: int | None
    """The offset that Kafka has acknowledged; None when there is none."""
    uncommitted_secs: float
    """Seconds since the committed offset last moved, while there is something to commit or to wait for."""
    position: int | None = None
    """The offset after everything that was read; None before anything was."""
    still_secs: float = 0.0
    """Seconds for which the position has not moved although the partition was being read."""
    lag: int | None = None
    """Records above the committed offset; None while unknown."""


class CatchUpStats(NamedTuple):
    """Records that were read again for destinations that are behind."""

    records: int = 0
    deliveries: int = 0
    """Deliveries that these records began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """One worker. Before its engine runs, there is nothing to count."""

    now_ms: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    dispatcher: DispatcherStats = field(default_factory=DispatcherStats)
    destinations: Sequence[DestinationStats] = ()
    """The destinations that need attention most, as many as were asked for."""
    catch_up: CatchUpStats = field(default_factory=CatchUpStats)
    backlogs: Sequence[BacklogStats] = ()
    """The destinations that have fallen behind, those with the most events first."""
    missing_buses: Sequence[BusMissing] = ()
    """The destinations whose bus does not exist."""
    partitions: Mapping[str, Sequence[PartitionStats]] = field(default_factory=dict)
    """The assigned partitions of ``events`` and of ``retries``."""
    unread_secs: Mapping[Partition, float] = field(default_factory=dict)
    """Seconds for which nothing was read from a partition that has more records; 0.0 while reading goes on."""
    poll_ages: Mapping[str, float] = field(default_factory=dict)
    """Seconds since the thread of each consumer last polled."""
    kafka: Mapping[str, ClientStatistics] = field(default_factory=dict)
    sign_ins: SignIns = field(default_factory=SignIns)
    own_problem: str = ""
    """Why our own credentials cannot be used; empty when they can, or when no destination needs them."""
    attempts_lost: int = 0
    """Attempt records that could not be written."""
    notices_lost: int = 0
    """Notices that could not be written."""
    attempts_backlog: int = 0
    """Attempt records that wait to be written."""


class StatsSource(Protocol):
    """Takes a worker's statistics."""

    def __call__(self, max_destinations: int = 0) -> WorkerStats:
        """The statistics of this moment, with at most this number of destinations."""
