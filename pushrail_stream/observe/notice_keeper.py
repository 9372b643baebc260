"""Looks after states that no signal tells: backlogs that grow, dead letters that expire, and notices that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, final

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import KafkaTrouble, NoticesLost
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.notices import Expiring, Notices
from pushrail_stream.pipeline.stats import StatsSource, WorkerStats
from pushrail_stream.ports.pipeline import Observer

LOOK_SECS: Final = 30.0
"""Seconds between two looks: a tenth of the time over which a backlog grows."""
_LETTERS_SECS: Final = 3_600.0
"""Seconds between two looks at the dead letters: a notice comes a day before they go."""


@final
class NoticeKeeper:
    """Shows `Notices` the state of one worker again and again. Lives on the event loop."""

    def __init__(
        self, notices: Notices, stats: StatsSource, events: str,
        find_expiring: Callable[[], Awaitable[Expiring | None]], observe: Observer,
    ) -> None:  # fmt: skip
        """``events``: the topic of events. ``find_expiring`` raises `OperatorError` when Kafka does not tell."""
        self._notices = notices
        self._stats = stats
        self._first = Partition(events, 0)
        """The worker that has it looks at the dead letters: one of the group is enough."""
        self._find_expiring = find_expiring
        self._observe = observe
        self._lost = 0
        self._letters_at = float("-inf")

    async def keep(self) -> None:
        """Look until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_SECS)
            stats = self._stats()
            self._notices.look(stats.backlogs)
            self._report(stats.notices_lost)
            if now() - self._letters_at >= _LETTERS_SECS and self._is_first(stats):
                self._letters_at = now()
                await self._look_at_dead_letters()

    def _report(self, lost: int) -> None:
        if lost > self._lost:
            self._lost = lost
            self._observe(NoticesLost(lost))

    def _is_first(self, stats: WorkerStats) -> bool:
        return any(one.partition == self._first for one in stats.partitions.get("events", ()))

    async def _look_at_dead_letters(self) -> None:
        try:
            self._notices.look_at_dead_letters(await self._find_expiring())
        except OperatorError as error:
            self._observe(KafkaTrouble(f"{error}. The end of dead letters is looked for again in an hour"))
