"""How to look at a worker when somebody asks: what is counted nowhere because it is there to be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.pipeline.assignment import PartitionStats
from pushrail_stream.pipeline.bus_monitor import MissingBusStats
from pushrail_stream.pipeline.dispatcher import DestinationStats, DispatcherStats
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import SignIns


@dataclass(slots=True)
class WorkerStats:
    """Filled in when the worker runs; before that there is nothing to see."""

    ledger: Ledger = field(default_factory=Ledger)
    dispatcher_stats: Callable[[], DispatcherStats] = DispatcherStats
    lanes: Callable[[int], Sequence[DestinationStats]] = lambda _max_calls: ()
    has_destination: Callable[[str], bool] = lambda _id: True
    """Whether there is a document of this id."""
    missing_buses: Callable[[], Sequence[MissingBusStats]] = list
    partitions: Callable[[], Mapping[str, Sequence[PartitionStats]]] = dict
    """Of events and of retries."""
    lag: Callable[[Partition, int | None], int | None] = lambda _partition, _committed: None
    """Records of a partition above the committed offset; None while unknown."""
    unread_secs: Callable[[], Mapping[Partition, float]] = dict
    """By partition, how long nothing was read although its end is ahead; 0.0 where reading goes on."""
    poll_ages: Callable[[], Mapping[str, float]] = dict
    """Seconds since each consumer's thread last turned."""
    kafka: Callable[[], Mapping[str, ClientStatistics]] = dict
    sign_ins: Callable[[], SignIns] = SignIns
    attempts_lost: Callable[[], int] = lambda: 0
    attempts_backlog: Callable[[], int] = lambda: 0
    now_ms: Callable[[], int] = lambda: 0
