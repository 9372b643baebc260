"""Sources: the records from which the ends of one delivery can have come, with answers for all of them at once.

A backlog may be copied thousands of times. So each question is answered once for each log and each moment at which its
partition got another owner, and not once for each record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import final

from pushrail_stream.core.record import Partition
from tests.simulation.oracle.coverage import Coverage
from tests.simulation.oracle.evidence import Disturbance, Written


@final
class Sources:
    """The event's records, and its copies on retry topics."""

    def __init__(self, coverage: Coverage, records: Iterable[Written], destinations: Collection[str] = ()) -> None:
        """``destinations``: those whose cursors may have the records."""
        self._coverage = coverage
        self._destinations = destinations
        self._of: dict[Partition, list[Written]] = defaultdict(list)
        for one in records:
            self._of[Partition(one.record.topic, one.record.partition)].append(one)
        self._first_at = {partition: min(one.at for one in some) for partition, some in self._of.items()}
        self._first_open_at: dict[tuple[Partition, float], float] = {}
        """By partition and time: the first time of a record that no commit covered at this time."""

    def repetition(self, at: float, host: str) -> Disturbance | None:
        """The reason for which a record that this host handled at this time was read again; None when there is none.

        A partition got another owner before a commit covered the record, and that because of a disturbance.
        """
        for partition in self._before(at):
            following_at = self._coverage.next_owner_at(partition, at)
            if following_at is None or self._open_since(partition, following_at) >= at:
                continue
            if (loss := self._coverage.loss_between(host, at, following_at)) is not None:
                return loss
        return None

    def is_stray(self, at: float, host: str) -> int:
        """1 if this worker may not have known yet at this time that another one has the record; else 0."""
        return int(any(self._coverage.is_stray(partition, at, host) for partition in self._before(at)))

    def left_in_flight(self, acts: Iterable[tuple[float, str, bool]]) -> list[float]:
        """The times at which a worker gave a partition up while an act was in flight: one for each such act.

        An act is its time, its host, and whether it is a copy. When a worker gives a partition up several times in a
        row, acts of each time may be in flight. No more acts than records are in flight at one of these times.
        """
        found, room = list[float](), dict[tuple[float, Partition, str], int]()
        for at, host, is_copy in sorted(acts):
            losses = sorted(
                (left_at, partition, host)
                for partition in self._before(at)
                for left_at in self._coverage.left_in_flight(partition, at, host, is_copy=is_copy)
            )
            for loss in losses:
                left_at, partition, _ = loss
                if room.setdefault(loss, self._left_open(partition, left_at, host)):
                    room[loss] -= 1
                    found.append(left_at)
                    break
        return found

    def _before(self, at: float) -> list[Partition]:
        """The partitions with a record from before this time."""
        return [partition for partition, first_at in self._first_at.items() if first_at < at]

    def _open_since(self, partition: Partition, at: float) -> float:
        known = self._first_open_at.get((partition, at))
        if known is None:
            times = (one.at for one in self._of[partition] if not self._coverage.covers(one, at, self._destinations))
            known = self._first_open_at[partition, at] = min(times, default=float("inf"))
        return known

    def _left_open(self, partition: Partition, left_at: float, host: str) -> int:
        """The number of records that were there when a partition was given up, and that its next owner read again."""
        following_at = self._coverage.follower_at(partition, left_at, host)
        return (
            0
            if following_at is None
            else sum(
                one.visible_at < left_at and not self._coverage.covers(one, following_at, self._destinations)
                for one in self._of[partition]
            )
        )
