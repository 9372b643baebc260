"""A clock in the test's hand."""

from __future__ import annotations

from typing import final


@final
class StoppedTime:
    """Stands in for the module ``time``: its seconds pass only when a test moves them, or in a sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, secs: float) -> None:
        self.now += secs
