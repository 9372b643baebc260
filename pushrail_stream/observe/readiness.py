"""Readiness of a worker: whether it consumes, or why it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

from pushrail_stream.core.signals import Flooded, Membership, Signal
from pushrail_stream.pipeline.stats import StatsSource

STUCK_SECS: Final = 60.0
"""Time without a poll after which a consumer counts as stuck. A rebalance, which drains, commits and asks for offsets
without a poll, is shorter."""


@final
class Readiness:
    """A worker is ready when it knows its destinations, is in touch with its consumer groups and was not stopped."""

    def __init__(self, groups: Iterable[str], stats: StatsSource) -> None:
        self._stats = stats
        self._active = dict.fromkeys(groups, False)
        self._loading = True
        self._flooded = False
        self._stopping = False

    def __call__(self, signal: Signal) -> None:
        match signal:
            case Membership(group, active):
                self._active[group] = active
            case Flooded():
                self._flooded = True
            case _:
                pass

    def loaded(self) -> None:
        self._loading = False

    def stop(self) -> None:
        """Note that the worker drains and takes no more records."""
        self._stopping = True

    def reasons(self) -> Sequence[str]:
        """Why the worker is not ready; empty if it is."""
        away = [f"consumer group {group}: not in touch" for group, active in self._active.items() if not active]
        stats = self._stats()  # a consumer that is stuck sends no signals
        ages = stats.poll_ages
        stuck = [f"consumer of {name}: stuck for {secs:.0f} s" for name, secs in ages.items() if secs > STUCK_SECS]
        unread = [
            f"{partition}: nothing was read for {secs:.0f} s although its end is ahead"
            for partition, secs in stats.unread_secs.items()
            if secs > STUCK_SECS
        ]
        flooded = ["stopped by a flood of dead letters"] if self._flooded else []
        loading = ["the destinations have not been read yet"] if self._loading else []
        return [*loading, *away, *stuck, *unread, *flooded, *(["stopping"] if self._stopping else [])]
