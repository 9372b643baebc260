"""``pushrail-stream attempts``: the answer to where an event is."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
from click.core import ParameterSource

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, printable, table
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic
from pushrail_stream.cli.times import MOMENT, check_period, now_ms, shown
from pushrail_stream.core.record import Record
from pushrail_stream.errors import UsageError
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.attempts import (
    COLUMNS,
    STATUSES,
    Attempt,
    AttemptFilter,
    Summary,
    fit_for_index,
    newest_of,
    read_attempt,
    row_of,
)
from pushrail_stream.settings import Settings

_DAY_MS: Final = 86_400_000
_UNASKED_MS: Final = _DAY_MS
"""How far back a search goes that names neither a time nor an event."""
_ROWS: Final = 1_000
"""Of a table for which nobody has set a limit."""
_DROP_EVERY_MS: Final = 3_600_000


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
@click.option("--status", type=click.Choice(STATUSES), help="Of which that became.")
@click.option("--code", help="With this error code, AWS's or ours.")
@click.option("--correlation-id", metavar="ID", help="Of events with this correlation id.")
@click.option("--replay", metavar="ID", help="Made by this replay.")
@click.option("--since", "since_ms", type=MOMENT, metavar="TIME", help="Made then or later: RFC 3339, or 2h, 7d ago.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Made before then.")
@click.option(
    "--limit", type=click.IntRange(1), help="The newest so many; with --follow the next. [default: 1000 in a table]"
)
@click.option("--summary", is_flag=True, help="Count by status, code and destination instead.")
@click.option("--follow", is_flag=True, help="Go on with what is attempted from now on, until interrupted.")
@common_options
def attempts(options: Options, /, *, limit: int | None, summary: bool, follow: bool, **filters: Any) -> None:
    """Search the delivery log: every attempt of every event, and every event that was not sent.

    Without a time the last 24 hours are searched; for one event (--key, --origin, --correlation-id) all there is. With
    an index (`attempts index`, history.index) all that it keeps is, and the topic only for what it has not seen yet.
    What is older than that a --since finds.

    With --json: the records as they were written, one a line; with --summary one object.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
            raise click.UsageError(f"options stand behind {context.invoked_subcommand}")
        return
    if follow and summary:
        raise click.UsageError("--summary: counts what there is, and --follow has no end")
    check_period(filters["since_ms"], filters["until_ms"])
    wanted = AttemptFilter(**filters)
    settings = options.settings
    if follow:
        _follow(options, settings, wanted, limit)
        return
    most = _ROWS if limit is None and not options.json and not summary else limit
    with Bar("attempts", quiet=options.json) as bar:
        found: Iterable[Attempt] = _search(settings, wanted, bar, None if most is None else most + 1)
        if most is not None:
            found = _newest(found, most)
        if summary:
            _summarise(options, found)
            return
        # The table's columns are as wide as their widest cell: it needs all of them; lines do not.
        count = _print_lines(found) if options.json else _print_table(found)
    if not count:
        note("nothing was found")


def _newest(found: Iterable[Attempt], most: int) -> list[Attempt]:
    newest = newest_of(found, most + 1)
    if len(newest) > most:
        note(f"the newest {most}; there are more (--limit, or --json for all)")
    return newest[-most:]


def _search(settings: Settings, wanted: AttemptFilter, bar: Bar, newest: int | None) -> Iterator[Attempt]:
    """Everything that is meant; with ``newest``, of the index no more than that."""
    path, topic = settings.history.index, settings.topics.attempts
    starts: dict[int, int] | None = None
    since_ms = wanted.since_ms
    if path is not None and path.exists():
        with AttemptIndex.open(path, topic) as index, index.snapshot():
            if _is_of_use(index, settings, since_ms):
                starts = index.offsets()
                back = "" if index.since_ms is None else f", back to {shown(index.since_ms)}"
                note(f"by the index {path}{back}, and the topic from there on")
                yield from index.find(wanted, newest)
    if starts is None and since_ms is None and not wanted.names_one_event:
        since_ms = now_ms() - _UNASKED_MS
        note(f"since {shown(since_ms)} (--since searches further back)")
    broken = 0
    for record in read_topic(settings, topic, bar, since_ms=since_ms, starts=starts):
        attempt = read_attempt(record.value)
        broken += attempt is None
        if attempt is not None and wanted.matches(attempt) and (since_ms is None or attempt.at_ms >= since_ms):
            yield attempt
    if broken:
        note(f"{broken} records of {topic} make no sense")


def _is_of_use(index: AttemptIndex, settings: Settings, since_ms: int | None) -> bool:
    """Whether the index has what is asked for, as far as it goes; else the topic alone is read."""
    path, topic = settings.history.index, settings.topics.attempts
    if not index.is_of(topic_id(kafka_for(settings), topic)):
        note(f"{path} is not used: {topic} was made anew since (`attempts index` begins it again)")
        return False
    if since_ms is not None and since_ms < (index.since_ms or 0):
        note(f"{path} is not used: it goes back to {shown(index.since_ms)}")
        return False
    return bool(index.offsets())


def _follow(options: Options, settings: Settings, wanted: AttemptFilter, limit: int | None) -> None:
    since_ms = now_ms() if wanted.since_ms is None else wanted.since_ms
    shown_so_far = 0
    with Scan(kafka_for(settings), settings.topics.attempts, since_ms=since_ms, follow=True) as scan:
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
    parts = {
        "status": summary.statuses,
        "dead letters' fault": summary.faults,
        "code": summary.codes,
        "destination": summary.destinations,
    }
    if options.json:
        emit({
            "attempts": summary.statuses.total(),
            "oldest": shown(summary.oldest_ms) or None,
            "newest": shown(summary.newest_ms) or None,
            "byStatus": summary.statuses,
            "deadLetteredByFault": summary.faults,
            "byCode": summary.codes,
            "byDestination": summary.destinations,
        })  # fmt: skip
        return
    table(
        ("by", "", "attempts"),
        ((by, name, str(count)) for by, part in parts.items() for name, count in part.most_common()),
    )
    note(f"{summary.statuses.total()} attempts from {shown(summary.oldest_ms)} to {shown(summary.newest_ms)}")


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
        raise UsageError("history.index: is not set: name the file that the index is to be kept in")
    kafka = kafka_for(settings)
    with AttemptIndex.open(Path(path), topic) as kept:
        if kept.renew(topic_id(kafka, topic)):
            note(f"{topic} was made anew: the index begins again")
        with (
            Scan(kafka, topic, starts=kept.offsets(), follow=not once) as scan,
            Bar("attempts", quiet=options.json) as bar,
            _until_told() if not once else nullcontext([False]) as told,
        ):
            added, broken = _fill(kept, scan, keep * _DAY_MS, bar, told)
        count = kept.count()
    if options.json:
        emit({"index": str(path), "added": added, "attempts": count, "unreadable": broken})
    else:
        note(f"{path}: {added} attempts added, {count} kept")


def _fill(kept: AttemptIndex, scan: Scan, keep_ms: int, bar: Bar, told: list[bool]) -> tuple[int, int]:
    """How many records were added, and how many make no sense."""
    added = broken = 0
    since_ms = _drop_old(kept, keep_ms)
    for batch in scan:
        found = [fit_for_index(record) for record in batch]
        rows = [one for one in found if one is not None and one.attempt.at_ms >= since_ms]
        if batch:
            kept.add(rows, _next_offsets(batch))
        added += len(rows)
        broken += found.count(None)
        bar.at(*scan.progress)
        if now_ms() - keep_ms - since_ms >= _DROP_EVERY_MS:
            since_ms = _drop_old(kept, keep_ms)
        if told[0]:
            break
    return added, broken


def _drop_old(kept: AttemptIndex, keep_ms: int) -> int:
    """From when on attempts are kept, epoch ms."""
    since_ms = now_ms() - keep_ms
    kept.drop_before(since_ms)
    return since_ms


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
