"""Reads a topic's records for operations that look back, and reports the progress."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from pushrail_stream.core.record import Record
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.model import Settings


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


def read_topic(
    settings: Settings,
    topic: str,
    subject: str,
    progress: Progress,
    *,
    since_ms: int | None = None,
    starts: Mapping[int, int] | None = None,
    only: Collection[int] | None = None,
) -> Iterator[Record]:
    """Every record from a time or from offsets to the topic's present end. Raises `OperatorError`.

    The times of a topic's records are in no order: a start can be found by time, an end cannot.
    """
    with Scan(reached_kafka(settings), topic, since_ms=since_ms, starts=starts, only=only) as scan:
        yield from read_scan(scan, subject, progress)


def read_scan(scan: Scan, subject: str, progress: Progress) -> Iterator[Record]:
    """The records of a scan. The progress moves with each record, because the caller may take long over one."""
    progress.begin(subject)
    for batch in scan:
        done, total = scan.progress
        for left, record in zip(range(len(batch), 0, -1), batch, strict=True):
            progress.at(done - left, total)
            yield record
        progress.at(done, total)
    for partition, (first, end) in scan.unreadable:
        progress.note(
            f"{partition}: offsets {first} to {end - 1} cannot be read (a batch that does not decompress): left out"
        )
