"""The ledger: at any moment, every delivery that has begun is in exactly one column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ledger:
    """Deliveries of one worker since it started. A record without a delivery counts as one."""

    begun: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    """Kafka has acknowledged their dead letters."""
    moved_to_retry: int = 0
    """Kafka has acknowledged their retry copies."""
    skipped: int = 0
    put_back: int = 0
    """Taken out of memory while their destination is behind. A cursor names them, and they begin again later."""
    dropped: int = 0
    """Abandoned with a revoked partition. Its next owner begins them again."""

    @property
    def in_flight(self) -> int:
        """Begun, and neither settled nor dropped: in a lane, in a call, or on the way to a topic."""
        settled = self.delivered + self.dead_lettered + self.moved_to_retry + self.skipped
        return self.begun - settled - self.put_back - self.dropped

    @property
    def balances(self) -> bool:
        """Whether the accounting identity holds: no delivery has ended twice."""
        return self.in_flight >= 0
