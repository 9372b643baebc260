"""Progress that nobody watches."""

from __future__ import annotations


class Silent:
    """A progress display that shows nothing. Implements `topic_reader.Progress`."""

    extra = ""

    def begin(self, subject: str) -> None:
        """Show nothing."""

    def at(self, done: int, total: int) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""
