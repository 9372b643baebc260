"""Sending a replay's deliveries: in transactions, no faster than asked, and whatever interrupts it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from pushrail_stream.cli.output import note
from pushrail_stream.cli.progress import Bar
from pushrail_stream.core.skips import Mark
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.operations.replay import Pace, ReplayCopy
from pushrail_stream.settings import Settings

_CHUNK: Final = 500
"""Deliveries of one transaction."""
_CHUNK_BYTES: Final = 8 * 2**20
"""And about their bytes: it has to be written within seconds, over whatever network."""


@final
class Sender:
    """Writes chosen deliveries to the first retry topic. ``rate``: at most so many a second.

    Without a journal it is a rehearsal: nothing is written, and nothing waited for.
    """

    def __init__(self, journal: ReplayJournal | None, settings: Settings, rate: float | None, bar: Bar) -> None:
        self._journal = journal
        self._topic = next(iter(settings.topics.retry))
        self._pace = Pace(rate)
        self._chunk = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate)))
        self._bar = bar
        self._copies: list[ReplayCopy] = []
        self._marks: list[Mark] = []
        self._bytes = 0
        self.sent = 0

    def add(self, copy: ReplayCopy, *marks: Mark) -> None:
        """One more for the next transaction, and what is to be marked with it."""
        self._copies.append(copy)
        self._marks += marks
        self._bytes += len(copy.value or b"")

    @property
    def is_rehearsal(self) -> bool:
        """Whether nothing is written."""
        return self._journal is None

    @property
    def is_full(self) -> bool:
        """Whether it is time to `flush`."""
        return len(self._copies) >= self._chunk or self._bytes >= _CHUNK_BYTES

    def flush(self, *more: Mark) -> None:
        """Write what there is, in one transaction, when it is time; afterwards it counts as sent."""
        copies, marks = self._copies, [*self._marks, *more]
        if self._journal is not None and (copies or marks):
            if copies:
                time.sleep(self._pace.wait_secs(len(copies), time.monotonic()))
            with _uninterrupted():
                self._journal.write(self._topic, copies, marks)
                self.sent += len(copies)
            self._bar.beside = f"{self.sent:,} sent"
        self._copies, self._marks, self._bytes = [], [], 0


@contextmanager
def interruptible(replay_id: str, sender: Sender, how: str) -> Iterator[None]:
    """Say, when somebody interrupts it, what has been sent, and ``how`` to go on."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"\ninterrupted: {sender.sent} deliveries of {replay_id} are on their way, the rest is untouched; {how}")
        raise


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep SIGINT back until the block is over: whether a transaction was committed must be known."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)
