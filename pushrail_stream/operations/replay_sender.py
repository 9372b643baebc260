"""Sends a replay's deliveries in transactions, at a limited rate, and survives an interruption."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.core.skips import Mark
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.operations.replay_selection import ReplayCopy
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

_CHUNK: Final = 500
"""Deliveries of one transaction."""
_CHUNK_BYTES: Final = 8 * 2**20
"""Bytes of one transaction, about: they have to be written within seconds over any network."""


@final
class ReplaySender:
    """Writes the selected deliveries to the first retry topic, at most ``rate`` a second.

    Without a journal it is a dry run: it writes nothing and waits for nothing.
    """

    def __init__(
        self, journal: ReplayJournal | None, settings: Settings, rate: float | None, progress: Progress
    ) -> None:
        self._journal = journal
        self._topic = next(iter(settings.topics.retry))
        self._rate = TokenBucket(rate or math.inf)
        self._chunk = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate)))
        self._progress = progress
        self._copies: list[ReplayCopy] = []
        self._marks: list[Mark] = []
        self._bytes = 0
        self.sent = 0

    def add(self, copy: ReplayCopy, *marks: Mark) -> None:
        """Add a delivery and its marks to the next transaction."""
        self._copies.append(copy)
        self._marks += marks
        self._bytes += len(copy.value or b"")

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is written."""
        return self._journal is None

    @property
    def is_full(self) -> bool:
        """Whether it is time to `flush`."""
        return len(self._copies) >= self._chunk or self._bytes >= _CHUNK_BYTES

    def flush(self, *more: Mark) -> None:
        """Write the deliveries and marks in one transaction, as soon as the rate allows it."""
        copies, marks = self._copies, [*self._marks, *more]
        if self._journal is not None and (copies or marks):
            if copies:
                now = time.monotonic()
                time.sleep(self._rate.wait_secs(now))
                self._rate.spend(now, len(copies))
            with _uninterrupted():
                self._journal.write(self._topic, copies, marks)
                self.sent += len(copies)
            self._progress.extra = f"{self.sent:,} sent"
        self._copies, self._marks, self._bytes = [], [], 0

    @contextmanager
    def interruptible(self, replay_id: str, remedy: str) -> Iterator[None]:
        """When the operator interrupts the block, note the deliveries that were sent and how to go on."""
        try:
            yield
        except KeyboardInterrupt:
            self._progress.note(
                f"\ninterrupted: {self.sent} deliveries of {replay_id} are on their way, the rest is untouched; "
                f"{remedy}"
            )
            raise


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep SIGINT back until the block is over: it must be known whether a transaction was committed."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)
