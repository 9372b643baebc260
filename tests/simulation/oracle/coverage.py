"""Coverage: the records that commits covered at any moment, and the moments at which partitions got another owner."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, final

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import (
    CommitFailed,
    KafkaTrouble,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
)
from pushrail_stream.kafka.metadata_limit import LIMIT_NAME
from tests.simulation.oracle.commit_cursors import read_cursors
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.covers import Log, cover_of, log_of
from tests.simulation.oracle.evidence import Commit, Disturbance, Evidence, Written
from tests.simulation.oracle.periods import Periods

_FORGETTING: Final = frozenset({"killed", "paused", "expelled", "failed", "kafka", "commit"})
"""Disturbances after which records that were not committed may be read again."""
_RECORDS_AGAIN: Final = frozenset({"operator", "log"})
"""Disturbances that may move the position of a group back."""
_STRAYING: Final = frozenset({"paused", "expelled", "kafka"})
"""Disturbances during which a worker may not know that others have its partitions."""
_NOTICE_SECS: Final = 60.0
"""Longest time in seconds between a disturbance and its last effect: a session, a rejoin and a call."""
_SESSION_SECS: Final = 120.0
"""Longest time in seconds for which a member that is told of its loss had lost its partitions before."""


_REMEMBERED_SECS: Final = 600.0
"""Longest time in seconds after a loss of records until a worker notices it."""


class _Owner(NamedTuple):
    at: float
    host: str


class _MapLeftOut(NamedTuple):
    """A worker's commit without a map, after one that had one."""

    at: float
    before: Commit
    after: Commit


@final
class Coverage:
    """Answers from the commits, the assignments and the disturbances of a story."""

    def __init__(self, evidence: Evidence) -> None:
        self._times: dict[tuple[Partition, str | None], list[float]] = defaultdict(list)
        self._commits: dict[tuple[Partition, str | None], list[Commit]] = defaultdict(list)
        for commit in evidence.commits:
            self._times[log_of(commit)].append(commit.at)
            self._commits[log_of(commit)].append(commit)
        self._losses = [one for one in evidence.disturbances if one.kind in _FORGETTING]
        self._moves = [one for one in evidence.disturbances if one.kind in _RECORDS_AGAIN]
        self._owners: dict[Partition, list[_Owner]] = defaultdict(list)
        self._restarts: dict[Partition, list[float]] = defaultdict(list)
        self._given_up: dict[tuple[Partition, str], list[tuple[float, bool]]] = defaultdict(list)
        """By partition and host: the times at which it gave the partition up, and whether it had lost it."""
        self._of: dict[str, list[Disturbance]] = {}
        self._straying: dict[str, Periods] = {}
        self._read_signals(evidence)
        workers = {call.host for call in evidence.calls} | {end.host for end in evidence.worker_ends}
        self.hosts_of_commands = {one.host for one in evidence.written} - workers
        """Hosts that wrote records and never ran a worker: those of operators' commands."""
        self._maps_left_out = self._find_maps_left_out(evidence)

    def _find_maps_left_out(self, evidence: Evidence) -> dict[Log, list[_MapLeftOut]]:
        """The commits without a map of workers that were told that the brokers' limit of metadata is small."""
        short_from: dict[str, float] = {}
        for at, host, signal in evidence.signals:
            if isinstance(signal, KafkaTrouble) and signal.problem.startswith(LIMIT_NAME):
                short_from.setdefault(host, at)
        found: dict[Log, list[_MapLeftOut]] = defaultdict(list)
        for log, commits in self._commits.items() if short_from else ():
            for before, after in pairwise(commits):
                is_short = short_from.get(after.host, math.inf) <= after.at
                if is_short and read_map(before.committable).settled and not read_map(after.committable).settled:
                    found[log].append(_MapLeftOut(after.at, before, after))
        return found

    def _read_signals(self, evidence: Evidence) -> None:
        lost_at = [one.until for one in evidence.disturbances if one.kind == "log"]
        for at, host, signal in evidence.signals:
            match signal:
                case PartitionsAssigned(partitions):
                    for partition, _ in partitions:
                        self._owners[partition].append(_Owner(at, host))
                case PartitionsRevoked():
                    self._note_revoked(at, host, signal)
                case PartitionRestarted(partition) if any(at - _REMEMBERED_SECS <= one <= at for one in lost_at):
                    self._restarts[partition].append(at)
                case CommitFailed():
                    self._losses.append(Disturbance(at - _NOTICE_SECS, at, "commit", host))
                case _:
                    pass

    def _note_revoked(self, at: float, host: str, signal: PartitionsRevoked) -> None:
        for partition in signal.partitions:
            self._given_up[partition, host].append((at, signal.lost))
        if signal.lost:
            self._losses.append(Disturbance(at - _SESSION_SECS, at, "expelled", host))

    def covers(self, one: Written, at: float, destinations: Collection[str] = ()) -> bool:
        """Whether a worker that started at this moment would have known that this record was settled.

        It was not if a cursor of one of the destinations still had the record.
        """
        log = _partition_of(one), one.record.topic_id
        index = bisect_right(self._times.get(log, []), at) - 1
        if index < 0:
            return False
        commit = self._commits[log][index]
        cursors = read_cursors(commit.committable)
        is_open = any(name in cursors and cursors[name].covers(one.record.offset) for name in destinations)
        return cover_of(commit)(one) and not is_open

    def repetition_of(self, one: Written, at: float, host: str) -> Disturbance | None:
        """The reason for which a record that this host handled at this time was read again; None when there is none.

        The partition got another owner before a commit covered the record, and that because of a disturbance.
        """
        following_at = self.next_owner_at(_partition_of(one), at)
        if following_at is None or self.covers(one, following_at):
            return None
        return self.loss_between(host, at, following_at)

    def next_owner_at(self, partition: Partition, at: float) -> float | None:
        """The time after this one at which a worker got the partition; None when none did."""
        owners = self._owners.get(partition, [])
        index = bisect_right(owners, at, key=lambda owner: owner.at)
        return owners[index].at if index < len(owners) else None

    def follower_at(self, partition: Partition, left_at: float, host: str) -> float | None:
        """The time at which another worker, or this one again, got the partition that this host gave up at ``left_at``.

        A worker that lost a partition learns of it late: the next owner may have had the partition before that.
        """
        mine = [owner.at for owner in self._owners.get(partition, []) if owner.host == host and owner.at <= left_at]
        return self.next_owner_at(partition, mine[-1] if mine else left_at)

    def loss_between(self, host: str, at: float, until: float) -> Disturbance | None:
        """A disturbance of this host, or of all, for which a record may be read again by the end of this period."""
        return next((loss for loss in self._losses_of(host) if at <= loss.until and loss.at <= until), None)

    def is_stray(self, partition: Partition, at: float, host: str) -> bool:
        """Whether another worker owned a partition at this time, and a disturbance kept this one from it."""
        owners = self._owners.get(partition, [])
        index = bisect_right(owners, at, key=lambda owner: owner.at)
        is_others = index > 0 and owners[index - 1].host != host
        self._losses_of(host)
        return is_others and at in self._straying[host]

    def left_in_flight(self, partition: Partition, at: float, host: str, *, is_copy: bool) -> Iterator[float]:
        """The times at which this worker gave a partition up, if its act at ``at`` may be from before that.

        A worker that loses a partition waits for nothing. Otherwise it waits for calls, and for copies unless Kafka
        takes none. An act in flight then goes on, and the partition's next owner, perhaps the same worker, reads the
        record again, unless it knew by a commit that the record was settled.
        """
        self._losses_of(host)
        for left_at, is_lost in self._given_up.get((partition, host), []):
            is_possible = is_lost or (is_copy and left_at in self._straying[host])
            if is_possible and left_at < at <= left_at + _NOTICE_SECS:
                yield left_at

    def forgotten_at(self, one: Written) -> Iterator[float]:
        """The times of commits that no longer say that this record has settled, for want of room for their map."""
        for at, before, after in self._maps_left_out.get((_partition_of(one), one.record.topic_id), ()):
            if cover_of(before)(one) and not cover_of(after)(one):
                yield at

    def restarts_of(self, one: Written) -> list[float]:
        """The times at which a worker read the record's partition again, because its log had lost records."""
        return self._restarts.get(_partition_of(one), [])

    def moves_of(self, one: Written) -> Iterator[Disturbance]:
        """The disturbances after which this record may be read again although a commit covered it."""
        partition = _partition_of(one)
        return (move for move in self._moves if move.until >= one.at and move.partition in {None, partition})

    def _losses_of(self, host: str) -> list[Disturbance]:
        """The disturbances of this host and of all, until their last effect."""
        found = self._of.get(host)
        if found is None:
            losses = [one._replace(until=one.until + _NOTICE_SECS) for one in self._losses if one.host in {"", host}]
            found = self._of[host] = losses
            self._straying[host] = Periods((one.at, one.until) for one in losses if one.kind in _STRAYING)
        return found


def _partition_of(one: Written) -> Partition:
    return Partition(one.record.topic, one.record.partition)
