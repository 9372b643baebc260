"""Progress of long work: one line on a terminal's stderr, nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, final

import click

from pushrail_stream.cli.output import note

_EVERY_SECS: Final = 0.2
_DELAY_SECS: Final = 1.0
"""Work that ends sooner shows no progress."""


@final
class ProgressBar(AbstractContextManager["ProgressBar"]):
    """The share of a topic that is done, the speed, and the time left."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._is_on = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._subject = ""
        self._began = self._shown_at = 0.0
        self._width = 0
        self.extra = ""
        """Text behind the progress, as ``120 sent``."""

    def __exit__(self, *_: object) -> None:
        self._wipe()

    def begin(self, subject: str) -> None:
        """Start to read records of this kind."""
        self._wipe()
        self._subject = subject
        self._began = self._shown_at = self._clock()

    def at(self, done: int, total: int) -> None:
        """Show how many of the records are done, five times a second."""
        if not self._is_on:
            return
        now = self._clock()
        if now - self._began < _DELAY_SECS or now - self._shown_at < _EVERY_SECS:
            return
        self._shown_at = now
        line = describe(self._subject, done, total, now - self._began) + (f"; {self.extra}" if self.extra else "")
        click.echo("\r" + line.ljust(self._width), nl=False, err=True)
        self._width = max(self._width, len(line))

    def note(self, text: str) -> None:
        """Print a line beside the result, in place of the bar."""
        self._wipe()
        note(text)

    def _wipe(self) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
        self._width = 0


def describe(subject: str, done: int, total: int, secs: float) -> str:
    """One line about progress."""
    per_second = done / secs if secs > 0 else 0.0
    left = f", {(total - done) / per_second:.0f} s left" if per_second > 0 and total > done else ""
    return f"{subject}: {done:,} of {total:,}, {per_second:,.0f} a second{left}"
