"""Deliveries of a replay are written in transactions, at a limited rate."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from pushrail_stream.core.skips import Mark
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.operations import replay_sender
from pushrail_stream.operations.replay_selection import ReplayCopy
from pushrail_stream.operations.replay_sender import ReplaySender
from pushrail_stream.settings.model import Settings
from tests.support.stopped_time import StoppedTime

COPY = ReplayCopy(b"acct_0", b"{}", ())


class Journal:
    """Keeps each transaction; ``on_write`` is called within it."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int, list[Mark]]] = []
        self.on_write: Callable[[], None] = lambda: None

    def write(self, topic: str, copies: Sequence[ReplayCopy], marks: Sequence[Mark]) -> None:
        self.on_write()
        self.written.append((topic, len(copies), list(marks)))


class Shown:
    """The progress as the operator sees it."""

    extra = ""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, subject: str) -> None: ...

    def at(self, done: int, total: int) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    clock = StoppedTime()
    monkeypatch.setattr(replay_sender, "time", clock)
    return clock


def sender(journal: Journal | None, rate: float | None = None) -> tuple[ReplaySender, Shown]:
    shown = Shown()
    return ReplaySender(cast("ReplayJournal | None", journal), Settings(), rate, shown), shown


def test_copies_and_marks_share_a_transaction(clock: StoppedTime) -> None:
    del clock
    journal = Journal()
    sending, shown = sender(journal)
    sending.add(COPY, Mark("a", b"1"))
    sending.add(COPY, Mark("b", b"2"))
    sending.flush(Mark("end", b"3"))
    sending.flush()
    assert journal.written == [("pushrail.retry.10s", 2, [Mark("a", b"1"), Mark("b", b"2"), Mark("end", b"3")])]
    assert (sending.sent, shown.extra) == (2, "2 sent")


def test_a_dry_run_writes_nothing(clock: StoppedTime) -> None:
    sending, shown = sender(None, rate=1)
    for _ in range(5):
        sending.add(COPY)
        sending.flush()
    assert (sending.is_dry_run, sending.sent, shown.extra, clock.now) == (True, 0, "", 1000.0)


@pytest.mark.parametrize(("rate", "chunk"), [(None, 500), (10_000.0, 500), (20.0, 20), (0.5, 1)])
def test_a_slow_replay_has_small_transactions(rate: float | None, chunk: int) -> None:
    sending, _ = sender(Journal(), rate)
    for _ in range(chunk - 1):
        sending.add(COPY)
    assert not sending.is_full
    sending.add(COPY)
    assert sending.is_full


def test_a_transaction_is_bounded_in_bytes() -> None:
    sending, _ = sender(Journal())
    sending.add(ReplayCopy(b"key", b"x" * 8 * 2**20, ()))
    assert sending.is_full


def test_the_rate_spaces_transactions(clock: StoppedTime) -> None:
    sending, _ = sender(Journal(), rate=10)
    for _ in range(4):
        for _ in range(10):
            sending.add(COPY)
        sending.flush()
    assert 3.0 <= clock.now - 1000.0 <= 4.0


def test_an_interrupt_waits_for_the_transaction(clock: StoppedTime) -> None:
    del clock
    journal = Journal()
    journal.on_write = lambda: signal.raise_signal(signal.SIGINT)
    sending, shown = sender(journal)
    sending.add(COPY)
    with pytest.raises(KeyboardInterrupt), sending.interruptible("rp-1", "run it again"):
        sending.flush()
    assert len(journal.written) == 1, "it is known that the transaction was committed"
    assert shown.notes == ["\ninterrupted: 1 deliveries of rp-1 are on their way, the rest is untouched; run it again"]
