"""``pushrail-stream top``: the workers, and the destinations that need attention most."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Cell, Column, emit, printable, table_lines
from pushrail_stream.core.text import format_age, format_span
from pushrail_stream.operations.times import now_ms

if TYPE_CHECKING:
    from pushrail_stream.operations.fleet import FleetDestination, FleetWorker
    from pushrail_stream.operations.top import Overview
    from pushrail_stream.settings.model import Settings

_NAMED: Final = 4
"""Workers of a kind that are named: a screen of 80 columns has room for them beside the table."""
_COLUMNS: Final = (
    "destination", Column("state", "status"), "per s", "err/s", "waiting", Column("oldest", drop=2), "behind",
    Column("calls", drop=3), Column("max calls", drop=1), Column("last error", drop=4),
)  # fmt: skip


@click.command(epilog="Example: pushrail-stream top --once")
@click.option("--once", is_flag=True, help="Print the present state and end.")
@common_options
def top(options: Options, /, *, once: bool) -> None:
    """Watch the workers and their destinations, the most in need first. The key q ends the view.

    Every worker writes its state to Kafka every few seconds; this command reads the newest of each. Deliveries that
    wait are those in a worker's memory; the lag counts the records behind the commits, those on retry topics too.
    "behind" is a destination's backlog: the most events that it has still to get from its own position in the log. The
    lag does not count them, and `backlog list` tells more.

    --json, --output, and an output that is no terminal print the state once.
    """
    from pushrail_stream.operations.fleet import read_fleet
    from pushrail_stream.operations.top import overview

    if once or options.output != "table" or not sys.stdout.isatty():
        _print_once(options, overview(read_fleet(options.settings), now_ms()))
    else:
        _watch(options.settings)


def _print_once(options: Options, seen: Overview) -> None:
    if options.json:
        emit(seen.as_json())
        return
    for line in _head(seen):
        options.say(line)
    if seen.destinations or options.output == "csv":
        options.table(_COLUMNS, (_row(one, seen) for one in seen.destinations))
    for line in _foot(seen):
        options.say(line)


def _watch(settings: Settings) -> None:
    """Draw the view until q is pressed."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from pushrail_stream.cli.keyboard import pressed_keys
    from pushrail_stream.operations.fleet import watch_fleet
    from pushrail_stream.operations.top import overview

    with pressed_keys() as keys, Live(console=Console(), screen=True, auto_refresh=False) as live:
        for fleet in watch_fleet(settings):
            if "q" in keys().lower():
                break
            live.update(Text.from_ansi("\n".join(_screen(overview(fleet, now_ms()))), no_wrap=True), refresh=True)


def _screen(seen: Overview) -> list[str]:
    """The lines of the view, as many as the terminal has."""
    height = shutil.get_terminal_size().lines
    head, foot = [*map(printable, _head(seen)), ""], ["", *map(printable, _foot(seen)), "q ends the view"]
    room = height - len(head) - len(foot) - 1  # below the names of the columns
    # A cut table needs a line to say so.
    cut = seen.destinations[: room if len(seen.destinations) <= room else max(1, room - 1)]
    more = len(seen.destinations) - len(cut)
    rows = table_lines(_COLUMNS, (_row(one, seen) for one in cut)) if cut else []
    return [*head, *rows, *([f"{more:,} more need less attention"] if more else []), *foot][:height]


def _head(seen: Overview) -> list[str]:
    """The lines about workers and lag."""
    lost = [f"lost      {_workers(seen.fleet.lost)}"] if seen.fleet.lost else []
    if seen.fleet.problem:
        lost.insert(0, f"Kafka     no state has come since its last error: {seen.fleet.problem}")
    if not seen.fleet.alive:
        return (
            lost if seen.fleet.problem else ["No worker is alive. This command starts one: pushrail-stream run", *lost]
        )
    oldest = "" if seen.oldest_secs is None else f", the oldest open record is {format_span(seen.oldest_secs)} old"
    work = f"{seen.waiting:,} waiting, {seen.calls:,} calls in flight"
    unready = [worker for worker in seen.fleet.alive if worker.state.reasons]
    lines = [
        f"alive     {_workers(seen.fleet.alive)}",
        *lost,
        *(f"not ready {one.label}: {'; '.join(one.state.reasons)}" for one in unready[:_NAMED]),
        f"lag       {seen.lag['events']:,} events, {seen.lag['retries']:,} retries{oldest}",
        *_behind(seen),
        f"now       {seen.per_second:,.1f} delivered/s, {seen.errors_per_second:,.1f} errors/s, {work}",
        f"data      at most {format_span(seen.age_secs)} old",
    ]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return [line if width is None or len(line) <= width else f"{line[: width - 1]}…" for line in lines]


def _behind(seen: Overview) -> list[str]:
    """The line about backlogs; none without any."""
    if not seen.behind:
        return []
    oldest = f"the oldest is {format_span(seen.oldest_backlog_secs)} old"
    return [f"behind    {seen.behind:,} destinations by at most {seen.backlog_events:,} events, {oldest}: backlog list"]


def _foot(seen: Overview) -> list[str]:
    """The lines about things that the table does not show."""
    lines = []
    if seen.fleet.alive and not seen.destinations and not seen.unshown:
        lines.append("The workers see no destination that needs attention since their start.")
        lines.append("The delivery log knows of earlier ones: pushrail-stream destinations list --state")
    if seen.unshown:
        lines.append(f"Workers left {seen.unshown:,} destinations out that need less attention.")
    if seen.fleet.others:
        lines.append(f"Workers of other groups on this Kafka, not shown: {seen.fleet.others:,}.")
    if seen.fleet.unreadable:
        lines.append(f"{seen.fleet.unreadable:,} records of the topic are no worker's state.")
    return lines


def _workers(workers: Sequence[FleetWorker]) -> str:
    """The number of workers, and the names, ids and ages of the first."""
    names = ", ".join(f"{one.label} ({format_age(one.age_secs)})" for one in workers[:_NAMED])
    more = f", and {len(workers) - _NAMED:,} more" if len(workers) > _NAMED else ""
    return f"{len(workers):,}: {names}{more}"


def _row(one: FleetDestination, seen: Overview) -> tuple[Cell, ...]:
    backlog = seen.backlogs.get(one.id)
    return (
        one.id,
        one.state,
        f"{one.per_second:.1f}",
        f"{one.errors_per_second:.1f}",
        one.waiting,
        format_span(one.oldest_secs) if one.waiting else None,
        None if backlog is None else backlog.events,
        one.calls,
        one.max_calls,
        one.last_error or None,
    )
