"""Arrivals at the buses in columns, two dozen bytes each. The bus's process hands them over in files."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Final, NamedTuple

UNANSWERED: Final = float("inf")
_COLUMNS: Final = {"numbers": "I", "slots": "B", "workers": "H", "received": "d", "replied": "d"}


class Arrival(NamedTuple):
    """One entry that a bus took. ``replied``: when its reply left, `UNANSWERED` when none did in time."""

    number: int
    slot: int
    worker: int
    """The worker that made the call; 0 for a call that was signed with the customer's own key."""
    received: float
    replied: float


class Arrivals:
    """All arrivals, in order."""

    def __init__(self) -> None:
        self.numbers = array("I")
        self.slots = array("B")
        self.workers = array("H")
        self.received = array("d")
        self.replied = array("d")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Arrival:
        return Arrival(
            self.numbers[index], self.slots[index], self.workers[index], self.received[index], self.replied[index]
        )

    def append(self, arrival: Arrival) -> None:
        """Add one."""
        for name, value in zip(_COLUMNS, arrival, strict=True):
            getattr(self, name).append(value)

    def save(self, folder: Path) -> None:
        """Write the columns."""
        for name in _COLUMNS:
            (folder / f"{name}.column").write_bytes(getattr(self, name).tobytes())

    @classmethod
    def load(cls, folder: Path) -> Arrivals:
        """Read what `save` wrote."""
        arrivals = cls()
        for name in _COLUMNS:
            getattr(arrivals, name).frombytes((folder / f"{name}.column").read_bytes())
        return arrivals
