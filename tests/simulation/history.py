"""The history of a story: everything that can be observed, in order, with a hash to compare two runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, final


class Happening(NamedTuple):
    """One observable fact."""

    at: float
    """Virtual seconds."""
    kind: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        """One line for people."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{self.at:11.3f} {self.kind}: {facts}"


@final
class History:
    """Collects happenings, and counts the faults that took effect."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._hash = hashlib.sha256()
        self.happenings: list[Happening] = []
        self.faults = Counter[str]()
        """The faults that took effect, by kind."""

    def note(self, kind: str, **facts: Any) -> None:
        """Add a happening. Its facts are plain values, the same in every run of the seed."""
        happening = Happening(self._now(), kind, facts)
        self.happenings.append(happening)
        self._hash.update(f"{happening.at!r}{kind}{facts!r}".encode())

    def count_fault(self, kind: str, **facts: Any) -> None:
        """Add a fault that takes effect now."""
        self.faults[kind] += 1
        self.note("fault", fault=kind, **facts)

    @property
    def hash(self) -> str:
        """A hash of everything so far: two runs of a seed must have the same."""
        return self._hash.hexdigest()
