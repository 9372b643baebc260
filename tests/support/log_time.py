"""The clock of the log, in the test's hand."""

from __future__ import annotations

from typing import final


@final
class Time:
    """The clock of the log, in the test's hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now
