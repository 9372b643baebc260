"""The ledger: at any moment, every delivery that has begun is in exactly one column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ledger:
    """Deliveries of one worker since it started. A record without a delivery counts as one."""

    begun: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    moved_to_retry: int = 0
    skipped: int = 0
    dropped: int = 0
    """Abandoned with a revoked partition. Its next owner begins them again."""
    in_flight: int = 0
    """Begun, and neither settled nor dropped: in a lane, in a call, or on the way to a topic."""

    @property
    def balances(self) -> bool:
        """Whether the accounting identity holds. A delivery that is counted twice makes ``in_flight`` negative."""
        settled = self.delivered + self.dead_lettered + self.moved_to_retry + self.skipped
        return self.begun == settled + self.dropped + self.in_flight and self.in_flight >= 0

    def begin(self, deliveries: int) -> None:
        """Deliveries have begun."""
        self.begun += deliveries
        self.in_flight += deliveries

    def deliver(self, deliveries: int) -> None:
        """Deliveries in flight were delivered."""
        self.delivered += deliveries
        self.in_flight -= deliveries

    def dead_letter(self, deliveries: int) -> None:
        """Kafka acknowledged the dead letters of deliveries in flight."""
        self.dead_lettered += deliveries
        self.in_flight -= deliveries

    def move(self, deliveries: int) -> None:
        """Kafka acknowledged the retry copies of deliveries in flight."""
        self.moved_to_retry += deliveries
        self.in_flight -= deliveries

    def skip(self, deliveries: int) -> None:
        """Deliveries in flight were skipped."""
        self.skipped += deliveries
        self.in_flight -= deliveries

    def drop(self, deliveries: int) -> None:
        """Deliveries in flight were abandoned to the next owner of their partition."""
        self.dropped += deliveries
        self.in_flight -= deliveries
