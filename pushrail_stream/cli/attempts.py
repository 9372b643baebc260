"""``pushrail-stream attempts``: the answer to where an event is."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, printable, remark, table
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic
from pushrail_stream.cli.times import MOMENT, now_ms, shown
from pushrail_stream.core.record import Record
from pushrail_stream.history.attempts import (
    COLUMNS,
    STATUSES,
    Attempt,
    AttemptFilter,
    Summary,
    fit_for_index,
    read_attempt,
    row_of,
)
from pushrail_stream.history.index import AttemptIndex
from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings import Settings

_DAY_MS: Final = 86_400_000
_UNASKED_MS: Final = _DAY_MS
"""How far back a search goes that names neither a time nor an event."""


@click.group(
    invoke_without_command=True,
    epilog="Example: pushrail-stream attempts --key order_38a91f-completed",
)
@click.option("--key", metavar="KEY", help="Of the event with this idempotency key.")
@click.option("--origin", metavar="POSITION", help="Of the event at topic/partition/offset.")
@click.option("--customer", metavar="ID", help="Of this customer (customerExternalId).")
@click.option("--destination", metavar="ID", help="To this destination.")
@click.option("--vendor", help="Of this vendor.")
@click.option("--event-type", help="Of exactly this event type.")
@click.option("--status", type=click.Choice(STATUSES), help="That ended so.")
@click.option("--code", help="With this error code, AWS's or ours.")
@click.option("--correlation-id", metavar="ID", help="Of events with this correlation id.")
@click.option("--replay", metavar="ID", help="Made by this replay.")
@click.option("--since", "since_ms", type=MOMENT, metavar="TIME", help="Made then or later: RFC 3339, or 2h, 7d ago.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Made before then.")
@click.option("--limit", type=click.IntRange(1), help="Show at most so many.")
@click.option("--summary", is_flag=True, help="Count by status, code and destination instead.")
@click.option("--follow", is_flag=True, help="Go on with what is attempted from now on, until interrupted.")
@common_options
def attempts(options: Options, /, *, limit: int | None, summary: bool, follow: bool, **filters: Any) -> None:
    """Search the delivery log: every attempt of every event, and every event that was not sent.

    Without a time the last 24 hours are searched; for one event (--key, --origin, --correlation-id) all there is. With
    an index (`attempts index`, history.index) everything is, and the topic only for what the index has not seen yet.

    With --json: the records as they were written, one a line; with --summary one object.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    wanted = AttemptFilter(**filters)
    settings = options.settings
    if follow:
        _follow(options, settings, wanted, limit)
        return
    with Bar("attempts", quiet=options.json) as bar:
        found = islice(_search(settings, wanted, bar), limit)
        if summary:
            _summarise(options, found)
            return
        # The table's columns are as wide as their widest cell: it needs all of them; lines do not.
        count = _print_lines(found) if options.json else _print_table(found)
    if not count:
        remark("nothing was found")


def _search(settings: Settings, wanted: AttemptFilter, bar: Bar) -> Iterator[Attempt]:
    path, topic = settings.history.index, settings.topics.attempts
    starts: dict[int, int] | None = None
    if path is not None and path.exists():
        with AttemptIndex.open(path, topic) as index:
            starts = index.offsets()
            remark(f"by the index {path}, and the topic from there on")
            yield from index.find(wanted)
    since_ms = wanted.since_ms
    if starts is None and since_ms is None and not wanted.names_one_event:
        since_ms = now_ms() - _UNASKED_MS
        remark(f"since {shown(since_ms)} (--since searches further back)")
    broken = 0
    for record in read_topic(settings, topic, bar, since_ms=since_ms, starts=starts):
        attempt = read_attempt(record.value)
        broken += attempt is None
        if attempt is not None and wanted.matches(attempt) and (since_ms is None or attempt.at_ms >= since_ms):
            yield attempt
    if broken:
        remark(f"{broken} records of {topic} make no sense")


def _follow(options: Options, settings: Settings, wanted: AttemptFilter, limit: int | None) -> None:
    since_ms = now_ms() if wanted.since_ms is None else wanted.since_ms
    shown_so_far = 0
    with Scan(kafka_options(settings), settings.topics.attempts, since_ms=since_ms, follow=True) as scan:
        for batch in scan:
            for record in batch:
                attempt = read_attempt(record.value)
                if attempt is None or attempt.at_ms < since_ms or not wanted.matches(attempt):
                    continue
                click.echo(attempt.text if options.json else "  ".join(map(printable, row_of(attempt))))
                shown_so_far += 1
                if shown_so_far == limit:
                    return


def _print_lines(found: Iterable[Attempt]) -> int:
    count = 0
    for count, attempt in enumerate(found, 1):  # noqa: B007 - the last number is the count
        click.echo(attempt.text)
    return count


def _print_table(found: Iterable[Attempt]) -> int:
    rows = [row_of(attempt) for attempt in found]
    if rows:
        table(COLUMNS, rows)
    return len(rows)


def _summarise(options: Options, found: Iterable[Attempt]) -> None:
    summary = Summary()
    for attempt in found:
        summary.add(attempt)
    parts = {"status": summary.statuses, "code": summary.codes, "destination": summary.destinations}
    if options.json:
        emit({
            "attempts": summary.statuses.total(),
            "oldest": shown(summary.oldest_ms) or None,
            "newest": shown(summary.newest_ms) or None,
            "byStatus": summary.statuses,
            "byCode": summary.codes,
            "byDestination": summary.destinations,
        })  # fmt: skip
        return
    table(
        ("by", "", "attempts"),
        ((by, name, str(count)) for by, part in parts.items() for name, count in part.most_common()),
    )
    remark(f"{summary.statuses.total()} attempts from {shown(summary.oldest_ms)} to {shown(summary.newest_ms)}")


@attempts.command(epilog="Example: pushrail-stream attempts index --once")
@click.option("--keep", type=click.IntRange(1, 3650), default=7, show_default=True, help="Days that are kept.")
@click.option("--once", is_flag=True, help="Index what there is, and end.")
@common_options
def index(options: Options, *, keep: int, once: bool) -> None:
    """Keep an index of the delivery log in the local file of history.index, until interrupted.

    Attempts are then found by key, origin, customer, destination or correlation id at once, however many there are. It
    goes on where it stopped. With --json: one object at the end.
    """
    settings = options.settings
    path, topic = settings.history.index, settings.topics.attempts
    if path is None:
        raise CommandError("history.index: is not set: name the file that the index is to be kept in", 2)
    with (
        AttemptIndex.open(Path(path), topic) as kept,
        Scan(kafka_options(settings), topic, starts=kept.offsets(), follow=not once) as scan,
        Bar("attempts", quiet=options.json) as bar,
        _until_told() if not once else nullcontext([False]) as told,
    ):
        added = broken = 0
        expired_at = 0
        for batch in scan:
            found = [fit_for_index(record) for record in batch]
            rows = [one for one in found if one is not None]
            if batch:
                kept.add(rows, _next_offsets(batch))
            added += len(rows)
            broken += len(found) - len(rows)
            bar.at(*scan.progress)
            if now_ms() - expired_at > _DAY_MS / 24:
                expired_at = now_ms()
                kept.drop_before(expired_at - keep * _DAY_MS)
            if told[0]:
                break
        count = kept.count()
    if options.json:
        emit({"index": str(path), "added": added, "attempts": count, "unreadable": broken})
    else:
        remark(f"{path}: {added} attempts added, {count} kept")


def _next_offsets(batch: Iterable[Record]) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for record in batch:
        offsets[record.partition] = record.offset + 1
    return offsets


@contextmanager
def _until_told() -> Iterator[list[bool]]:
    """Whether somebody wants it to end, by SIGINT or SIGTERM: then it ends between two transactions."""
    told = [False]

    def end(_number: int, _frame: FrameType | None) -> None:
        told[0] = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
