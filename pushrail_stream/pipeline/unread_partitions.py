"""Unread partitions: nothing is read from them although Kafka has records for us.

Kafka's client never passes a batch that it cannot read, such as one that does not decompress. Its partition stands
still for good, and the client only reports an error from time to time. A client that reports none may be at fault
itself: its consumer replaces it. A partition that is paused does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, final

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import KafkaTrouble, OffsetsSkipped, PartitionUnread
from pushrail_stream.errors import OperatorError
from pushrail_stream.pipeline.stats import PartitionStats
from pushrail_stream.ports.pipeline import FindSkip, Observer

_PERIOD_SECS: Final = 5.0
"""Seconds between two checks. The partitions' ends are updated every 10 s."""
SAY_AFTER_SECS: Final = 60.0
"""Seconds after which a partition is reported. A change of its leader, or a broker's restart, takes less."""
_ASK_AFTER_SECS: Final = 15.0
"""Seconds after which we search for an operator's order to step over the batch."""


class _Behind(NamedTuple):
    next_offset: int | None
    since: float


@final
class UnreadPartitions:
    """Checks the partitions regularly. Times are seconds of the loop's clock."""

    def __init__(
        self,
        partitions: Callable[[], Mapping[str, Sequence[PartitionStats]]],
        lag: Callable[[Partition, int | None], int | None],
        step_over: Callable[[Partition, int], None],
        note_unread: Callable[[Collection[Partition]], None],
        find_skip: FindSkip,
        observe: Observer,
    ) -> None:
        """``lag``: a partition's records from an offset on. ``step_over``: read a partition on from an offset.

        ``note_unread``: gets the reported partitions at each check.
        """
        self._partitions = partitions
        self._lag = lag
        self._observe = observe
        self._find_skip = find_skip
        self._step_over = step_over
        self._note_unread = note_unread
        self._behind: dict[Partition, _Behind] = {}
        self._secs: dict[Partition, float] = {}

    @property
    def secs(self) -> Mapping[Partition, float]:
        """Seconds for which nothing was read from a partition that has more records; 0.0 while reading goes on."""
        return self._secs

    async def keep(self) -> None:
        """Check regularly until cancelled."""
        while True:
            self.check(asyncio.get_running_loop().time())
            await self._obey()
            await asyncio.sleep(_PERIOD_SECS)

    def check(self, now: float) -> None:
        """Check once."""
        views = [view for views in self._partitions().values() for view in views]
        self._secs = {view.partition: self._unread_secs(view, now) for view in views}
        # A partition that has left is no longer watched. Should it come back, its wait begins again.
        self._behind = {partition: behind for partition, behind in self._behind.items() if partition in self._secs}
        unread = [view for view in views if self._secs[view.partition] >= SAY_AFTER_SECS]
        for view in unread:
            self._observe(PartitionUnread(view.partition, view.position, self._secs[view.partition]))
        self._note_unread({view.partition for view in unread})

    async def _obey(self) -> None:
        """Carry out operators' orders to step over a batch."""
        for partition, behind in list(self._behind.items()):
            at = behind.next_offset
            if at is None or self._secs[partition] < _ASK_AFTER_SECS:
                continue
            try:
                skip = await self._find_skip(partition, at)
            except OperatorError as error:
                self._observe(KafkaTrouble(str(error)))
                return
            if skip is not None:
                self._step_over(partition, skip.end)
                self._observe(OffsetsSkipped(partition, at, skip.end, skip.reason))

    def _unread_secs(self, view: PartitionStats, now: float) -> float:
        next_offset = view.committed if view.position is None else view.position
        if not self._lag(view.partition, next_offset):  # nothing to read, or unknown
            self._behind.pop(view.partition, None)
            return 0.0
        behind = self._behind.get(view.partition)
        if behind is None or behind.next_offset != next_offset:
            behind = self._behind[view.partition] = _Behind(next_offset, now)
        # A position that has not moved for an hour may be behind for a second: records may have come just now.
        return min(view.still_secs, now - behind.since)
