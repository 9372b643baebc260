"""Disturbances: what was done to workers and broker and when, and which deliveries that can have repeated."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from tests.chaos.world import CONNECT_SECS, READ_SECS, SESSION_SECS

_COMMIT_SECS: Final = 1.0
"""A worker commits what has settled once in this time."""
_ACKNOWLEDGE_SECS: Final = 1.5
"""Until the broker of a busy machine has acknowledged the commit."""
UNCOMMITTED_SECS: Final = 2 * _COMMIT_SECS + _ACKNOWLEDGE_SECS
"""What settled longer ago is committed and cannot come again. Twice, since one commit may fall into a rebalance, which
refuses it; the next one makes up for it.
"""
_NOTICE_SECS: Final = 2.0
"""After SIGCONT, until a worker whose membership has ended meanwhile is told so: two heartbeats."""
_BUS_LAG_SECS: Final = 1.0
"""What a process sent before it was killed may be taken by a busy bus a little later."""
_CALL_SECS: Final = CONNECT_SECS + READ_SECS
_REJOIN_SECS: Final = SESSION_SECS + 4.0
"""After a broker is back, until every member has joined again and has committed."""


class Window(NamedTuple):
    """What settled in this time (epoch seconds) may not have been committed. ``worker`` None: by any worker."""

    worker: int | None
    start: float
    end: float
    stray: bool = False
    """Whether it may itself be the repetition: of a worker whose partitions others had got while it was stopped."""


class Disturbances:
    """All windows of a run. Made while it goes on, asked when it is over."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self._outages: list[tuple[float, float]] = []
        self._away_since: float | None = None
        self._merged: dict[tuple[int | None, bool], tuple[list[float], list[float]]] = {}

    def killed(self, worker: int, before: float, after: float) -> None:
        """SIGKILL was sent and the process has ended."""
        self.windows.append(Window(worker, before - UNCOMMITTED_SECS, after + _BUS_LAG_SECS))

    def stopped(self, worker: int, start: float, end: float) -> None:
        """SIGSTOP and SIGCONT. Calls under way may have timed out, and the worker may have lost its partitions."""
        noticed = _NOTICE_SECS if end - start >= SESSION_SECS / 2 else 0.0
        self.windows.append(Window(worker, start - max(UNCOMMITTED_SECS, _CALL_SECS), start))
        self.windows.append(Window(worker, start, end + noticed + _CALL_SECS, stray=True))

    def broker_gone(self, at: float) -> None:
        """The broker is about to end."""
        self._away_since = at

    def broker_back(self, at: float) -> None:
        """It answers again. Meanwhile nobody committed, and members may have lost their partitions."""
        if self._away_since is not None:
            self._outages.append((self._away_since, at))
            self.windows.append(Window(None, self._away_since - UNCOMMITTED_SECS, at + _REJOIN_SECS))
            self._away_since = None

    def broker_was_away(self, start: float, end: float) -> bool:
        """Whether the broker was away at some moment of this time."""
        if self._away_since is not None and self._away_since <= end:
            return True
        return any(down <= end and start <= up for down, up in self._outages)

    def forgotten(self, worker: int, start: float, end: float) -> bool:
        """Whether what happened in this time, by this worker (0: nobody knows whose), may be repeated."""
        return self._cover(worker, start, end, stray=False)

    def stray(self, worker: int, start: float, end: float) -> bool:
        """Whether what happened in this time, by this worker, may be a repetition itself, or be repeated."""
        return self._cover(worker, start, end, stray=True)

    def _cover(self, worker: int, start: float, end: float, *, stray: bool) -> bool:
        starts, ends = self._of(worker or None, stray=stray)
        index = bisect_right(starts, end) - 1
        return index >= 0 and ends[index] >= start

    def told(self) -> list[str]:
        """The windows, for people."""
        return [f"{w.start:.3f} to {w.end:.3f}: {f'worker {w.worker}' if w.worker else 'all'}" for w in self.windows]

    def _of(self, worker: int | None, *, stray: bool) -> tuple[list[float], list[float]]:
        found = self._merged.get((worker, stray))
        if found is None:
            mine = [w for w in self.windows if w.stray == stray and (worker is None or w.worker in {None, worker})]
            found = self._merged[worker, stray] = _merge(mine)
        return found


def _merge(windows: list[Window]) -> tuple[list[float], list[float]]:
    starts: list[float] = []
    ends: list[float] = []
    for _, start, end, _ in sorted(windows, key=lambda window: window.start):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
