"""``pushrail-stream attempts``: search the delivery log, and index it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from pushrail_stream.cli.attempt_story import print_stories
from pushrail_stream.cli.options import FROM_THEN_ON, Options, common_options, moment_option
from pushrail_stream.cli.output import Column, emit, format_time, note
from pushrail_stream.cli.process import signal_handlers
from pushrail_stream.operations.times import check_period, now_ms

if TYPE_CHECKING:
    from pushrail_stream.operations.attempts import Attempt, AttemptFilter
    from pushrail_stream.operations.topic_reader import Progress
    from pushrail_stream.settings.model import Settings

_STATUSES: Final = ("delivered", "retrying", "dead_lettered", "skipped")
"""Results of an attempt (CONTRACTS.md, "The attempt record")."""
_ROWS: Final = 1_000
"""Attempts of a table without --limit."""
_DAY_MS: Final = 86_400_000
_LETTERS: Final = 10
"""Most dead letters that are named when there is no attempt: an event has one for each of its destinations."""
_COLUMNS: Final = (
    Column("at", "time"), Column("status", "status"), "destination", Column("attempt", drop=3),
    Column("event type", drop=2), "key", Column("why", "prose"), Column("event id", drop=1),
)  # fmt: skip


@click.group(invoke_without_command=True, epilog="Example: pushrail-stream attempts --key order_38a91f-completed")
@click.option("--key", metavar="KEY", help="Only attempts of the event with this idempotency key.")
@click.option("--origin", metavar="POSITION", help="Only attempts of the event at topic/partition/offset.")
@click.option("--customer", metavar="ID", help="Only attempts for this customer (customerExternalId).")
@click.option("--destination", metavar="ID", help="Only attempts for this destination.")
@click.option("--vendor", help="Only attempts of this vendor's events.")
@click.option("--event-type", help="Only attempts of events of exactly this type.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only attempts with this status.")
@click.option("--code", help="Only attempts with this error code, AWS's or ours.")
@click.option("--correlation-id", metavar="ID", help="Only attempts of events with this correlation id.")
@click.option("--replay", metavar="ID", help="Only attempts of this replay.")
@moment_option("since", f"Only attempts made {FROM_THEN_ON}")
@moment_option("until", "Only attempts made before this time.")
@click.option(
    "--limit", type=click.IntRange(1),
    help="Show at most this many of the newest attempts; with --follow of the next. [default: 1000 in a table]",
)  # fmt: skip
@click.option("--summary", is_flag=True, help="Count attempts by status, code and destination instead.")
@click.option(
    "--story/--no-story", default=None,
    help="Tell each event's story: every attempt, and what comes next. "
    "[default: when --key, --origin or --correlation-id names the event]",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Show attempts as they are made, until interrupted.")
@common_options
def attempts(
    options: Options, /, *, limit: int | None, summary: bool, story: bool | None, follow: bool, **filters: Any
) -> None:
    """Search the delivery log: every attempt of every event, and every event that was not sent.

    A search without a time covers the last 24 hours; a search for one event (--key, --origin, --correlation-id) covers
    everything. An index (`attempts index`, history.index) answers for everything it keeps, and the topic is read only
    for newer attempts. --since searches further back than the index. When there is no attempt, the dead letters are
    searched, and those of the event are named on stderr.

    For one event, the command tells its story: for each destination every attempt, and then what comes next and when,
    or where the dead letter is and the command that replays it.

    With --json: the records as they were written, one a line; with --summary one object; with --story one object for
    each event.
    """
    from pushrail_stream.operations.attempts import AttemptFilter

    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
            raise click.UsageError(f"options stand behind {context.invoked_subcommand}")
        return
    if follow and summary:
        raise click.UsageError("--summary: cannot be used with --follow, which has no end")
    check_period(filters["since_ms"], filters["until_ms"])
    wanted = AttemptFilter(**filters)
    if follow:
        _print_following(options, wanted, limit)
        return
    if _is_story(options, wanted, story=story, is_plain=limit is None and not summary):
        _tell(options, wanted)
    else:
        _print_found(options, wanted, limit, summary=summary)


def _print_found(options: Options, wanted: AttemptFilter, limit: int | None, *, summary: bool) -> None:
    from pushrail_stream.operations.attempt_search import search_attempts

    max_ = _ROWS if limit is None and not options.json and not summary else limit
    with options.progress() as progress:
        found: Iterable[Attempt] = search_attempts(
            options.settings, wanted, progress, None if max_ is None else max_ + 1
        )
        if max_ is not None:
            found = _newest(options, found, max_)
        if summary:
            _print_summary(options, found)
            return
        has_found = _print_lines(found) if options.json else _print_table(options, found)
        if not has_found:
            _name_dead_letters(options.settings, wanted, progress)


def _is_story(options: Options, wanted: AttemptFilter, *, story: bool | None, is_plain: bool) -> bool:
    """Whether to tell stories: a filter for single attempts would leave gaps in them. Raises `click.UsageError`."""
    from pushrail_stream.operations.attempts import AttemptFilter

    names_event = AttemptFilter(
        key=wanted.key, origin=wanted.origin, correlation_id=wanted.correlation_id, customer=wanted.customer,
        vendor=wanted.vendor, destination=wanted.destination,
    )  # fmt: skip
    is_whole = is_plain and wanted == names_event and wanted.names_one_event
    if story and not is_whole:
        raise click.UsageError(
            "--story: needs --key, --origin or --correlation-id, and takes only --customer, --vendor and --destination "
            "beside them"
        )
    return is_whole and (options.output == "table" if story is None else story)


def _tell(options: Options, wanted: AttemptFilter) -> None:
    from pushrail_stream.operations.attempt_search import search_attempts
    from pushrail_stream.operations.attempt_story import as_json, tell_stories

    with options.progress() as progress:
        found = sorted(search_attempts(options.settings, wanted, progress), key=lambda attempt: attempt.at_ms)
        teller = tell_stories(options.settings, wanted, found, progress, now_ms())
    if options.json:
        for story in as_json(teller):
            emit(story)
    elif teller.stories:
        print_stories(teller)
    if not teller.stories:
        topics = options.settings.topics
        note(f"nothing was found in {', '.join((topics.attempts, *topics.retry, topics.dlq))}")


def _print_following(options: Options, wanted: AttemptFilter, limit: int | None) -> None:
    from pushrail_stream.operations.attempt_search import follow_attempts
    from pushrail_stream.operations.attempts import row_of

    found = islice(follow_attempts(options.settings, wanted), limit)
    if options.json:
        _print_lines(found)
    else:
        options.table(_COLUMNS, map(row_of, found), live=True)


def _name_dead_letters(settings: Settings, wanted: AttemptFilter, progress: Progress) -> None:
    """Name on stderr the dead letters of events without attempts."""
    from pushrail_stream.operations.attempt_search import search_dead_letters
    from pushrail_stream.operations.attempts import AttemptFilter

    note(f"nothing was found in {settings.topics.attempts}")
    if wanted == AttemptFilter() or wanted.status not in {None, "dead_lettered"}:
        return
    named = 0
    for letter in islice(search_dead_letters(settings, wanted, progress), _LETTERS):
        named += 1
        why = f"{letter.reason} {letter.code}".rstrip()
        position = letter.record.origin
        note(f"dead letter at {position}: {why}; to see it: pushrail-stream dlq show {position}")
    if not named:
        note(f"nothing was found in {settings.topics.dlq}")


def _newest(options: Options, found: Iterable[Attempt], max_: int) -> list[Attempt]:
    from pushrail_stream.operations.attempts import newest_of

    newest = newest_of(found, max_ + 1)
    if len(newest) > max_:
        how = "--limit" if options.json else "--limit, or --json for all"
        note(f"the newest {max_}; there are more ({how})")
    return newest[-max_:]


def _print_lines(found: Iterable[Attempt]) -> bool:
    has_found = False
    for attempt in found:
        has_found = True
        click.echo(attempt.text)
    return has_found


def _print_table(options: Options, found: Iterable[Attempt]) -> bool:
    # A table's columns are as wide as their widest cell, so it needs all rows at once; lines do not.
    from pushrail_stream.operations.attempts import row_of

    rows = [row_of(attempt) for attempt in found]
    if rows:
        options.table(_COLUMNS, rows)
    return bool(rows)


def _print_summary(options: Options, found: Iterable[Attempt]) -> None:
    from pushrail_stream.operations.attempts import Summary

    summary = Summary()
    for attempt in found:
        summary.add(attempt)
    total, oldest, newest = summary.statuses.total(), format_time(summary.oldest_ms), format_time(summary.newest_ms)
    if options.json:
        emit({
            "attempts": total,
            "oldest": oldest or None,
            "newest": newest or None,
            "byStatus": summary.statuses,
            "deadLetteredByFault": summary.faults,
            "byCode": summary.codes,
            "byDestination": summary.destinations,
        })  # fmt: skip
        return
    parts = {
        "status": summary.statuses,
        "dead letters' fault": summary.faults,
        "code": summary.codes,
        "destination": summary.destinations,
    }
    options.table(
        ("by", "value", "attempts"),
        ((by, name, count) for by, part in parts.items() for name, count in part.most_common()),
    )
    note(f"{total} attempts from {oldest} to {newest}")


@attempts.command(epilog="Example: pushrail-stream attempts index --once")
@click.option(
    "--keep", type=click.IntRange(1, 3650), default=7, show_default=True, help="Keep attempts for this many days."
)
@click.option("--once", is_flag=True, help="Index the attempts there are now, and end.")
@common_options
def index(options: Options, *, keep: int, once: bool) -> None:
    """Keep an index of the delivery log in the local file of history.index, until interrupted.

    Attempts are then found at once by key, origin, customer, destination or correlation id, whatever their number. The
    command goes on where it stopped. With --json: one object at the end.
    """
    from pushrail_stream.operations.attempt_index import keep_index

    signals: list[bool] = []  # no Event: a second signal may come while the first one is handled
    # A signal ends the command between two transactions.
    with options.progress() as progress, nullcontext() if once else signal_handlers(lambda: signals.append(True)):
        done = keep_index(options.settings, keep * _DAY_MS, progress, follow=not once, is_stopped=lambda: bool(signals))
    if options.json:
        emit({"index": done.path, "added": done.added, "attempts": done.kept, "unreadable": done.unreadable})
    else:
        note(f"{done.path}: {done.added} attempts added, {done.kept} kept")
