"""A worker's record on the topic of workers, as workers write it and commands and pages read it.

CONTRACTS.md, "Workers and control", has the format. A record is bounded: totals count everything, and details are of
the destinations and partitions that need attention most.
"""

from __future__ import annotations

import dataclasses
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Annotated, Final

import msgspec

from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.observe.control import read_record
from pushrail_stream.pipeline.stats import BacklogStats, DestinationStats, PartitionStats, WorkerStats

EVERY_SECS: Final = 5.0
"""Seconds between two states of a worker: quick enough for a person who watches, and a few hundred bytes a second."""
LOST_SECS: Final = 4 * EVERY_SECS
"""Age of the newest state at which a worker counts as lost, in seconds: three states did not come."""
MAX_DESTINATIONS: Final = 100
"""Destinations in one record, about 220 bytes each before compression."""
_MAX_PARTITIONS: Final = 200
"""Partitions in one record, about 120 bytes each before compression."""
MAX_BACKLOGS: Final = 50
"""Backlogs in one record, the largest, about 170 bytes each before compression."""
_MAX_REASONS: Final = 10
"""Most reasons in one record. Each partition that is not read is one, and the first few tell enough."""
_MAX_CODE: Final = 64
"""Characters of an error's code. AWS's codes are shorter; a proxy's may be anything."""
_MAX_BYTES: Final = 256 * 2**10
"""Largest record that is read. Ours have less than 64 KiB."""
_MOST: Final = 2**63 - 1
"""Largest number that is read, as a Kafka timestamp may have it. Sums of many such numbers fit a float."""

_Count = Annotated[int, msgspec.Meta(ge=-_MOST - 1, le=_MOST)]
"""A count, or a time in epoch milliseconds. A rebuilt topic may lead to negative ones."""
_Quantity = Annotated[float, msgspec.Meta(ge=-_MOST - 1, le=_MOST)]


def is_lost(age_secs: float) -> bool:
    """Whether a worker with a newest state of this age counts as lost.

    A state from the future counts too. Otherwise a worker that was killed would seem alive until that time.
    """
    return abs(age_secs) > LOST_SECS


class DestinationSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One destination, as one worker sees it."""

    id: str
    state: DestinationState
    waiting: _Count
    """Deliveries in its lane."""
    calls: _Count
    """Calls in flight."""
    max_calls: _Count
    per_second: _Quantity
    """Deliveries a second over the last few seconds."""
    errors_per_second: _Quantity = 0.0
    """Failed attempts of a delivery a second over the last few seconds."""
    last_error: str = ""
    """Code of the last of them; empty when there was none."""
    oldest_secs: _Quantity = 0.0
    """Seconds for which the oldest delivery in its lane has waited."""


class BacklogSummary(msgspec.Struct, frozen=True, rename="camel"):
    """The events that a destination which has fallen behind has still to get, in one worker's partitions."""

    id: str
    cursors: _Count
    """Partitions on which it is behind."""
    since: _Count
    """Epoch milliseconds since which it has been behind."""
    waiting: _Count
    """Events that were read and are not delivered."""
    unread: _Count
    """Offsets not read yet: an upper bound of the unread events."""
    oldest_at: _Count
    """Kafka timestamp of its oldest event, or of an earlier one; epoch milliseconds."""
    per_second: _Quantity = 0.0
    catch_up_secs: _Quantity | None = None
    """Seconds until nothing is left, as fast as the backlog shrinks now; None while it does not, or is new."""

    @property
    def events(self) -> int:
        """The most events that the destination has still to get."""
        return self.waiting + self.unread


class PartitionSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One partition that is assigned to the worker."""

    topic: str
    partition: _Count
    open: _Count
    """Records that are not settled."""
    lag: _Count | None
    """Records above the committed offset; None while unknown."""
    oldest_at: _Count | None
    """Kafka timestamp of the first record that is not settled, epoch milliseconds."""


class WorkerRecord(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One worker at one moment. Times are epoch milliseconds."""

    id: str
    name: str
    """Its name on its host: ``pushrail-stream``, or with a number when one command runs several."""
    host: str
    http: str
    """Address of its status page, ``host:port``."""
    version: str
    group: str
    """The consumer group of the events."""
    started_at: _Count
    at: _Count
    reasons: Sequence[str]
    """Why it is not ready; empty when it is."""
    deliveries: Mapping[str, _Count]
    """Deliveries since the start by their end (`core.ledger.Ledger`)."""
    totals: Mapping[str, _Count]
    """Destinations, calls and waiting deliveries (`pipeline.stats.DispatcherStats`), ``attemptsLost``, and of backlogs:
    destinations ``behind``, open ``cursors``, and the most events that these have still to get, ``backlogEvents``."""
    lag: Mapping[str, _Count]
    """Records above the committed offsets, of ``events`` and ``retries``, as far as they are known."""
    destinations: Sequence[DestinationSummary]
    partitions: Sequence[PartitionSummary]
    """The partitions with the largest lag, at most `_MAX_PARTITIONS` of all."""
    partition_count: _Count
    backlogs: Sequence[BacklogSummary] = ()
    """The largest backlogs, at most `MAX_BACKLOGS` of all."""

    def age_secs(self, now_ms: int) -> float:
        """Seconds since this state by the worker's clock and the reader's; negative when the worker's is ahead."""
        return (now_ms - self.at) / 1000

    def encode(self) -> bytes:
        """The value of its record."""
        return msgspec.json.encode(self)

    @classmethod
    def read(cls, value: bytes) -> WorkerRecord | None:
        """The state in a record; None for anything else. Unknown fields are ignored, so that newer workers are read."""
        return read_record(value, cls, _MAX_BYTES)

    @classmethod
    def read_all(cls, values: Iterable[bytes]) -> list[WorkerRecord]:
        """The states in records; others are left out."""
        return [state for value in values if (state := cls.read(value)) is not None]


class WorkerIdentity(msgspec.Struct, frozen=True):
    """The facts about a worker that never change while it runs."""

    id: str
    name: str
    host: str
    group: str
    started_ms: int

    @classmethod
    def new(cls, name: str, group: str, started_ms: int) -> WorkerIdentity:
        """The identity of a worker that starts now. Its id differs from that of any other start anywhere."""
        host = socket.gethostname()
        number = name.removeprefix("pushrail-stream")  # "-2" of the second worker of a command
        return cls(f"{host}{number}-{secrets.token_hex(4)}", name, host, group, started_ms)

    def record(self, stats: WorkerStats, http: str, reasons: Sequence[str]) -> WorkerRecord:
        """The report of this moment by the worker's statistics."""
        partitions = [one for some in stats.partitions.values() for one in some]
        return WorkerRecord(
            id=self.id,
            name=self.name,
            host=self.host,
            http=http,
            version=installed_version(),
            group=self.group,
            started_at=self.started_ms,
            at=stats.now_ms,
            reasons=reasons[:_MAX_REASONS],
            deliveries=_counts(**dataclasses.asdict(stats.ledger), in_flight=stats.ledger.in_flight),
            totals=_counts(**stats.dispatcher._asdict(), attempts_lost=stats.attempts_lost, **_backlog_totals(stats)),
            lag={name: sum(one.lag or 0 for one in some) for name, some in stats.partitions.items()},
            destinations=[_destination(one) for one in stats.destinations[:MAX_DESTINATIONS]],
            partitions=[_partition(one) for one in sorted(partitions, key=_by_lag)[:_MAX_PARTITIONS]],
            partition_count=len(partitions),
            backlogs=[_backlog(one) for one in stats.backlogs[:MAX_BACKLOGS]],
        )


@cache
def installed_version() -> str:
    """The version of the installed package; empty when it runs from its sources."""
    try:
        return metadata.version("pushrail-stream")
    except metadata.PackageNotFoundError:
        return ""


def _counts(**counts: int) -> dict[str, int]:
    """Counts by their names in JSON."""
    return {
        words[0] + "".join(map(str.title, words[1:])): n for name, n in counts.items() if (words := name.split("_"))
    }


def _backlog_totals(stats: WorkerStats) -> dict[str, int]:
    return {
        "behind": len(stats.backlogs),
        "cursors": sum(one.cursors for one in stats.backlogs),
        "backlog_events": sum(one.events for one in stats.backlogs),
    }


def _by_lag(stats: PartitionStats) -> tuple[int, str, int]:
    return -(stats.lag or 0), *stats.partition


def _destination(stats: DestinationStats) -> DestinationSummary:
    return DestinationSummary(
        stats.destination_id,
        stats.state,
        stats.waiting,
        stats.calls,
        stats.max_calls,
        round(stats.per_second, 2),
        round(stats.errors_per_second, 2),
        stats.last_error[:_MAX_CODE],
        round(stats.oldest_secs, 1),
    )


def _backlog(stats: BacklogStats) -> BacklogSummary:
    secs = stats.catch_up_secs
    return BacklogSummary(
        stats.destination_id,
        stats.cursors,
        stats.since_ms,
        stats.waiting,
        stats.unread,
        stats.oldest_at_ms,
        round(stats.per_second, 2),
        None if secs is None else round(secs, 1),
    )


def _partition(stats: PartitionStats) -> PartitionSummary:
    topic, number = stats.partition
    return PartitionSummary(topic, number, stats.open_records, stats.lag, stats.oldest_at_ms)
