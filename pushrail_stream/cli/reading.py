"""A topic's records for commands that look back, with progress."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pushrail_stream.cli.output import note
from pushrail_stream.cli.progress import Bar
from pushrail_stream.core.record import Record
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings import Settings


def read_topic(
    settings: Settings,
    topic: str,
    bar: Bar,
    *,
    since_ms: int | None = None,
    starts: Mapping[int, int] | None = None,
    only: Collection[int] | None = None,
) -> Iterator[Record]:
    """Every record from there to the present end, as `Scan` understands it; raises `errors.OperatorError`.

    Times stand in no order in a topic: only what comes before ``since_ms`` can be passed over, never what comes after
    some time.
    """
    with Scan(kafka_for(settings), topic, since_ms=since_ms, starts=starts, only=only) as scan:
        yield from watched(scan, bar)


def watched(scan: Scan, bar: Bar) -> Iterator[Record]:
    """The records of a scan. What is done with one may take long: the bar moves with each of them."""
    for batch in scan:
        done, total = scan.progress
        for left, record in zip(range(len(batch), 0, -1), batch, strict=True):
            bar.at(done - left, total)
            yield record
        bar.at(done, total)
    for partition, (first, end) in scan.unreadable:
        note(f"{partition}: offsets {first} to {end - 1} cannot be read (a batch that does not decompress): left out")
