"""The view of a running operation: an operation reports to it, and the command line prints it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Shows how far an operation is."""

    extra: str
    """Text behind the progress, as ``120 sent``."""

    def begin(self, subject: str) -> None:
        """Start to read records of this kind."""

    def at(self, done: int, total: int) -> None:
        """Show how many of the records are done."""

    def note(self, text: str) -> None:
        """Show a line beside the operation's result."""
