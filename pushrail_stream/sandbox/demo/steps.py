"""Progress for whoever watches: what is being done, how long it took, how far it has come. On stderr, never stdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@final
class Steps:
    """The steps of a run, one line each."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step; its line appears when it is done."""
        with self._timed(text), self._console.status(text) if self._console.is_terminal else nullcontext():
            yield

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A step that can say how much of ``total`` is done."""
        columns = TextColumn("          {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        is_hidden = not self._console.is_terminal
        with (
            self._timed(text),
            Progress(*columns, console=self._console, transient=True, disable=is_hidden) as progress,
        ):
            task = progress.add_task(text, total=total)
            yield lambda done: progress.update(task, completed=done)

    @contextmanager
    def _timed(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.say(f"{time.monotonic() - began:6.1f} s  {text}")

    def say(self, line: str) -> None:
        """A line beside the result."""
        self._console.print(line)
