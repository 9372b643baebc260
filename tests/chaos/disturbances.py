"""Disturbances of workers and broker, with their times. They explain duplicates."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.chaos.world import CONNECT_SECS, READ_SECS, SESSION_SECS

_NOTICE_SECS: Final = 2.0
"""After SIGCONT, until a worker whose membership has ended meanwhile is told so: two heartbeats."""
_BUS_LAG_SECS: Final = 10.0
"""A busy bus may accept a call later than its process was killed. The process sends no more."""
_CALL_SECS: Final = CONNECT_SECS + READ_SECS
_REJOIN_SECS: Final = SESSION_SECS + 4.0
"""After a broker is back, until every member has joined again and has committed."""


class Loss(NamedTuple):
    """A worker forgot, or could not commit, the records that it had not committed ``at`` this moment (epoch seconds).

    ``until``: later events are not concerned. ``worker`` None: every worker. ``stray``: the worker's own calls in
    between may be the repetition, because others had its partitions.
    """

    worker: int | None
    at: float
    until: float
    stray: bool = False


class Disturbances:
    """All losses of a run. Made while it goes on, asked when it is over."""

    def __init__(self) -> None:
        self._losses: list[Loss] = []
        self._outages: list[tuple[float, float]] = []
        self._away_since: float | None = None
        self._of: dict[int, list[Loss]] = {}

    def killed(self, worker: int, before: float, after: float) -> None:
        """SIGKILL was sent and the process has ended."""
        self._losses.append(Loss(worker, before, after + _BUS_LAG_SECS))

    def stopped(self, worker: int, start: float, end: float) -> None:
        """SIGSTOP and SIGCONT. One that was stopped for long may have lost its partitions, and learns it late."""
        if end - start >= SESSION_SECS / 2:
            self._losses.append(Loss(worker, start, end + _NOTICE_SECS + _CALL_SECS, stray=True))

    def lost(self, worker: int, at: float) -> bool:
        """A worker was told that its partitions are not its own any more; whether nothing done to it explains that.

        The machine was too busy for its heartbeats then. When that began is not known.
        """
        if any(loss.at <= at <= loss.until + SESSION_SECS for loss in self.of(worker)):
            return False
        self._losses.append(Loss(worker, at - 2 * SESSION_SECS, at + _CALL_SECS, stray=True))
        self._of.clear()
        return True

    def broker_gone(self, at: float) -> None:
        """The broker is about to end."""
        self._away_since = at

    def broker_back(self, at: float) -> None:
        """It answers again. Meanwhile no commit was made, and members may have lost their partitions."""
        if self._away_since is not None:
            self._outages.append((self._away_since, at))
            self._losses = [self._prolonged(loss, at) for loss in self._losses]
            self._losses.append(Loss(None, self._away_since, at + _REJOIN_SECS))
            self._away_since = None

    def _prolonged(self, loss: Loss, back: float) -> Loss:
        """A worker that has lost its partitions cannot be told so while the broker is away."""
        assert self._away_since is not None
        is_untold = loss.stray and loss.at <= back and loss.until >= self._away_since
        return loss._replace(until=max(loss.until, back + _REJOIN_SECS + _CALL_SECS)) if is_untold else loss

    def broker_was_away(self, start: float, end: float) -> bool:
        """Whether the broker was away at some moment of this time."""
        if self._away_since is not None and self._away_since <= end:
            return True
        return any(down <= end and start <= up for down, up in self._outages)

    def of(self, worker: int) -> list[Loss]:
        """The losses that concern this worker; all of them for 0, an unknown worker."""
        found = self._of.get(worker)
        if found is None:
            found = self._of[worker] = [loss for loss in self._losses if not worker or loss.worker in {None, worker}]
        return found

    def told(self) -> list[str]:
        """The losses, for people."""
        return [
            f"{loss.at:.3f} to {loss.until:.3f}: {f'worker {loss.worker}' if loss.worker else 'all'}"
            for loss in self._losses
        ]
