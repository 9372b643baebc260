"""``pushrail-stream backlog``: the destinations that have fallen behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Cell, Column, format_time, note
from pushrail_stream.core.text import format_span
from pushrail_stream.operations.times import now_ms

if TYPE_CHECKING:
    from pushrail_stream.operations.backlogs import Backlog

_COLUMNS: Final = (
    "destination", "events at most", Column("oldest", drop=2), Column("behind since", "time", drop=3),
    Column("partitions", drop=4), Column("per s", drop=1), "caught up in",
)  # fmt: skip


@click.group(epilog="Example: pushrail-stream backlog list")
def backlog() -> None:
    """Show the destinations that have fallen behind, and how long they need to catch up."""


@backlog.command("list", epilog="Example: pushrail-stream backlog list --destination dst_acme_8K2zRq")
@click.option("--destination", metavar="ID", help="Only the backlog of this destination.")
@common_options
def list_(options: Options, *, destination: str | None) -> None:
    """List the destinations that have fallen behind, those with the most events first.

    A destination that takes events more slowly than they come, or whose bus is down, is served from its own position in
    each partition (a cursor). No other destination waits for it. The consumer group's lag does not count its events;
    this list does. It is read from the group's commits, also while no worker runs.

    "events at most" counts the events that were read and are not delivered, and all offsets between the cursor and the
    end of the partition; events of other destinations are among them. "oldest" is the age of its oldest event:
    from delivery.max_age_secs on, an event becomes a dead letter (expired). "per s" and "caught up in" come from the
    workers; "caught up in" is empty while the backlog does not shrink, or is only seconds old.

    To drain a backlog: when the bus is back, `retry now --destination ID` begins at once. When the bus works and the
    list grows, raise limits.maxInFlight or limits.maxRequestsPerSecond of its document, or ask the customer for a
    higher quota of PutEvents. `destinations disable ID` gives the events up: they are recorded as skipped. Copies on
    retry topics are no part of it: `retry list`.

    The command exits 0 with and without a backlog, and 1 when Kafka cannot be reached or the cursors of a partition
    cannot be read; it lists those of the other partitions all the same.
    With --json: one object for each destination, with destination, events, waiting (read, not delivered), unread
    (offsets), oldest, since, partitions (their numbers), perSecond and catchUpSecs (null when not known).
    """
    from pushrail_stream.operations.backlogs import list_backlogs

    with options.progress() as progress:
        found, problem = list_backlogs(options.settings, progress, destination)
    now = now_ms()
    options.table(_COLUMNS, (_row(one, now) for one in found), map(backlog_as_json, found))
    if problem is not None:
        raise problem
    if not options.json:
        note(_summary(found))


def _row(one: Backlog, now: int) -> tuple[Cell, ...]:
    return (
        one.destination,
        one.events,
        format_span((now - one.oldest_ms) / 1000),
        one.since_ms,
        len(one.partitions),
        None if one.per_second is None else f"{one.per_second:.1f}",
        None if one.catch_up_secs is None else format_span(one.catch_up_secs),
    )


def explain_backlog(one: Backlog) -> str:
    """A line for people about one backlog."""
    oldest = format_span((now_ms() - one.oldest_ms) / 1000)
    ends = "" if one.catch_up_secs is None else f"; caught up in {format_span(one.catch_up_secs)}"
    events = f"at most {one.events} events, the oldest {oldest} old"
    return f"{one.destination}: behind since {format_time(one.since_ms)} by {events}{ends}"


def backlog_as_json(one: Backlog) -> dict[str, Any]:
    """One backlog for programs."""
    return {
        "destination": one.destination,
        "events": one.events,
        "waiting": one.waiting,
        "unread": one.unread,
        "oldest": format_time(one.oldest_ms),
        "since": format_time(one.since_ms),
        "partitions": list(one.partitions),
        "perSecond": one.per_second,
        "catchUpSecs": one.catch_up_secs,
    }


def _summary(found: list[Backlog]) -> str:
    if not found:
        return "no destination is behind"
    events = sum(one.events for one in found)
    return f"destinations behind: {len(found)}, by at most {events} events; the group's lag does not count them"
