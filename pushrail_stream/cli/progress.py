"""Progress on long work: one line on a terminal's stderr, nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, final

import click

_EVERY_SECS: Final = 0.2
_PATIENCE_SECS: Final = 1.0
"""What ends sooner has no progress worth a line."""


@final
class Bar:
    """How much of one topic is done, how fast, and how long it will take."""

    def __init__(self, what: str, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._what = what
        self._clock = clock
        self._is_on = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._began = self._shown_at = clock()
        self._width = 0
        self.beside = ""
        """What else is to be said of it, as ``120 sent``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)

    def at(self, done: int, total: int) -> None:
        """Show where it stands, if it is time."""
        if not self._is_on:
            return
        now = self._clock()
        if now - self._began < _PATIENCE_SECS or now - self._shown_at < _EVERY_SECS:
            return
        self._shown_at = now
        line = describe(self._what, done, total, now - self._began) + (f"; {self.beside}" if self.beside else "")
        click.echo("\r" + line.ljust(self._width), nl=False, err=True)
        self._width = max(self._width, len(line))


def describe(what: str, done: int, total: int, secs: float) -> str:
    """One line about progress."""
    per_second = done / secs if secs > 0 else 0.0
    left = f", {(total - done) / per_second:.0f} s left" if per_second > 0 and total > done else ""
    return f"{what}: {done:,} of {total:,}, {per_second:,.0f} a second{left}"
