"""``pushrail-stream replay``: deliver dead letters and past events again, or move the group's offsets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pushrail_stream.cli.dlq import dead_letter_options
from pushrail_stream.cli.options import (
    FROM_THEN_ON,
    FiniteRange,
    Options,
    audited,
    can_ask,
    common_options,
    confirm,
    moment_option,
    yes_option,
)  # fmt: skip
from pushrail_stream.cli.output import emit, format_time, note, note_refused
from pushrail_stream.core.retry import MAX_REPLAYS
from pushrail_stream.errors import UsageError
from pushrail_stream.operations.times import check_period, now_ms

if TYPE_CHECKING:
    from pushrail_stream.operations.dead_letters import DeadLetterFilter
    from pushrail_stream.operations.destinations import KnownDestinations
    from pushrail_stream.operations.replay import ReplayLimits, ReplayResult
    from pushrail_stream.operations.replay_selection import EventFilter
    from pushrail_stream.settings.model import Settings


@click.group(epilog="Example: pushrail-stream replay dlq --destination dst_acme_8K2zRq --dry-run")
def replay() -> None:
    """Deliver dead letters or past events again, or move the group's offsets."""


@replay.command("dlq", epilog="Example: pushrail-stream replay dlq --destination dst_acme_8K2zRq --reason blocked")
@dead_letter_options
@click.option("--all", "everything", is_flag=True, help="Replay the dead letters of all customers.")
@click.option("--limit", type=click.IntRange(1), help="Replay at most this many dead letters.")
@click.option("--rate", type=FiniteRange(0, min_open=True), help="Replay at most this many a second.")
@click.option("--again", is_flag=True, help="Replay also dead letters that have been replayed before.")
@click.option(
    "--max-count", type=click.IntRange(1), default=MAX_REPLAYS, show_default=True,
    help="Leave out deliveries that have been replayed this many times.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the deliveries that would be replayed, and send nothing.")
@yes_option("send")
@common_options
@audited
def dlq_(
    options: Options,
    /,
    *,
    wanted: DeadLetterFilter,
    everything: bool,
    limit: int | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    **which: Any,
) -> None:
    """Deliver dead letters again, each to the one destination that it did not reach.

    Options select the dead letters, or --all takes every one. On a terminal the command shows what it would send, and
    asks. Deliveries that can only fail again are left out, unless --reason names theirs: rejected (EventBridge refuses
    the same entry again) and oversize (it fits into no call).

    Dead letters stay in the DLQ; copies go to the first retry topic and are due now. Each copy and the mark that it was
    replayed are written together or not at all: an interrupted replay goes on when it is started again, and nothing is
    replayed twice unless --again is given, and then each delivery once. Only one replay runs at a time: a new one ends
    the one before. A dead letter that had no destination, or could not be decoded, goes to the destinations that it has
    today.

    With --json: one object with replay, dryRun, sent, chosen (destination, reason, fault and count of each kind),
    leftOut (why, and how many) and at.
    """
    from pushrail_stream.operations.dead_letters import DeadLetterFilter
    from pushrail_stream.operations.replay import ReplayLimits, replay_dead_letters

    if wanted == DeadLetterFilter() and not everything:
        raise UsageError("--destination, --reason or another filter is required; --all replays every dead letter")
    known = _known(options.settings)

    def run(limits: ReplayLimits) -> ReplayResult:
        with options.progress() as progress:
            return replay_dead_letters(options.settings, known, wanted, limits, progress, **which)

    limits = ReplayLimits(deliveries=limit, per_second=rate, is_dry_run=dry_run)
    _carry_out(options, run, limits, ("destination", "reason", "fault"), is_answered=yes)


@replay.command(epilog="Example: pushrail-stream replay events --customer acct_8K2zRq --since 2h --until 1h")
@click.option("--customer", metavar="ID", help="Replay only this customer's events (customerExternalId).")
@click.option("--destination", metavar="ID", help="Replay events only to this destination.")
@click.option("--event-type", help="Replay only events of exactly this type.")
@moment_option("since", f"Replay events produced {FROM_THEN_ON}")
@moment_option("until", "Replay only events produced before this time. [default: now]")
@moment_option(
    "delivered-since",
    "Replay only events that the delivery log shows as delivered to the destination at this time or later.",
)
@moment_option("delivered-until", "Replay only events shown as delivered before this time. [default: now]")
@click.option("--all", "everything", is_flag=True, help="Replay events of all customers, to all their destinations.")
@click.option("--limit", type=click.IntRange(1), help="End after this many deliveries, with one event's all sent.")
@click.option("--rate", type=FiniteRange(0, min_open=True), help="Replay at most this many a second.")
@click.option("--resume", metavar="REPLAY", help="Go on with this replay of events, with its filter.")
@click.option("--dry-run", is_flag=True, help="Show the deliveries that would be replayed, and send nothing.")
@yes_option("send")
@common_options
@audited
def events(
    options: Options,
    /,
    *,
    limit: int | None,
    rate: float | None,
    resume: str | None,
    dry_run: bool,
    yes: bool,
    **filters: Any,
) -> None:
    """Deliver past events again, to the destinations there are now. The group's offsets do not move.

    On a terminal the command shows what it would send, and asks.

    Copies go to the first retry topic and are due now, one for each destination that wants the event. The replay's
    progress is written with them, and first of all before any copy: --resume goes on with an interrupted replay.

    With --delivered-since, only events are sent that EventBridge accepted for the destination in that time. It accepts
    events for a missing bus too.

    With --json: one object with replay, dryRun, sent, chosen (destination and count of each), leftOut (why, and how
    many) and at.
    """
    from pushrail_stream.operations.replay import ReplayLimits, replay_events

    wanted = _event_filter(resume=resume, **filters)
    known = _known(options.settings)

    def run(limits: ReplayLimits) -> ReplayResult:
        with options.progress() as progress:
            return replay_events(options.settings, known, wanted, limits, progress, resume=resume)

    limits = ReplayLimits(deliveries=limit, per_second=rate, is_dry_run=dry_run)
    _carry_out(options, run, limits, ("destination",), is_answered=yes)


@replay.command(epilog="Example: pushrail-stream replay offsets --to 2026-11-24T09:00:00Z --dry-run")
@click.option(
    "--to", "target", required=True, metavar="WHERE", help="Move to a time, 2h (ago), earliest, latest, or an offset."
)
@click.option("--partition", type=click.IntRange(0), help="Move the offset of this partition only.")
@click.option("--dry-run", is_flag=True, help="Show old and new offsets, and change nothing.")
@common_options
@audited
def offsets(options: Options, *, target: str, partition: int | None, dry_run: bool) -> None:
    """Move the committed offsets of the workers' group on the events topic. No worker may run meanwhile.

    The records between the old offset and the new one are delivered again, to every destination, or are passed over. A
    destination that is behind on a partition that moves gives up its events below the new offset (`backlog list`): the
    command names it. Where cursors cannot be read, --partition gives their events up, also at the present offset.
    With --json: one object for each partition.
    """
    from pushrail_stream.operations.offsets import move_offsets, parse_target

    where = parse_target(target)
    if where is None:
        expected = "a time such as 2026-11-24T09:00:00Z, how long ago (2h, 7d), earliest, latest, or an offset"
        raise UsageError(f"--to: must be {expected}")
    shifts, given_up, problem = move_offsets(options.settings, where, partition, is_dry_run=dry_run)
    options.table(
        ("partition", "old", "new", "end", "records"),
        ((s.partition, "none" if s.old is None else s.old, s.new, s.end, f"{s.again:+d}") for s in shifts),
        ({**shift._asdict(), "again": shift.again, "dryRun": dry_run} for shift in shifts),
    )
    again, past = sum(max(s.again, 0) for s in shifts), sum(max(-s.again, 0) for s in shifts)
    will = "would be" if dry_run else "will be"
    options.say(f"{again} records {will} delivered again, {past} passed over")
    if problem:
        note(f"warning: destinations that are behind give up their events; which ones is not known: {problem}")
    for one in given_up:
        note(f"warning: {one.destination} is behind and gives up at most {one.events} events below the new offsets")


def _event_filter(
    *,
    resume: str | None,
    everything: bool,
    customer: str | None,
    destination: str | None,
    event_type: str | None,
    **times: int | None,
) -> EventFilter | None:
    """The filter; None when a replay is resumed, because that has its own."""
    some = everything or not (customer is destination is event_type is None)
    if resume is not None:
        if some or any(time is not None for time in times.values()):
            raise UsageError("--resume: goes on with that replay's own filter; give no other")
        return None
    if times["delivered_since_ms"] is None and times["delivered_until_ms"] is None:
        period = _produced(times["since_ms"], times["until_ms"], some=some)
    else:
        period = _delivered(**times, is_narrow=destination is not None and not everything)
    return replace(period, customer=customer, destination=destination, event_type=event_type)


def _produced(since_ms: int | None, until_ms: int | None, *, some: bool) -> EventFilter:
    from pushrail_stream.operations.replay_selection import EventFilter

    if since_ms is None:
        raise UsageError("--since: is required, unless --resume goes on with a replay")
    if not some:
        raise UsageError(
            "--customer, --destination, --event-type: one of them is required; --all sends everything again"
        )
    check_period(since_ms, until_ms)
    return EventFilter(since_ms=since_ms, until_ms=now_ms() if until_ms is None else until_ms)


def _delivered(
    *,
    since_ms: int | None,
    until_ms: int | None,
    delivered_since_ms: int | None,
    delivered_until_ms: int | None,
    is_narrow: bool,
) -> EventFilter:
    from pushrail_stream.operations.replay_selection import ANY_TIME, EventFilter

    if delivered_since_ms is None:
        raise UsageError("--delivered-until: needs --delivered-since")
    if not is_narrow or not (since_ms is until_ms is None):
        raise UsageError("--delivered-since: needs --destination, and neither --since nor --until nor --all")
    check_period(delivered_since_ms, delivered_until_ms, "--delivered-")
    return EventFilter(
        since_ms=ANY_TIME[0],
        until_ms=ANY_TIME[1],
        delivered_since_ms=delivered_since_ms,
        delivered_until_ms=now_ms() if delivered_until_ms is None else delivered_until_ms,
    )


def _known(settings: Settings) -> KnownDestinations:
    from pushrail_stream.operations.destinations import known_destinations

    known = known_destinations(settings)
    note_refused(known.refused)
    return known


def _carry_out(
    options: Options,
    run: Callable[[ReplayLimits], ReplayResult],
    limits: ReplayLimits,
    columns: tuple[str, ...],
    *,
    is_answered: bool,
) -> None:
    """Run a replay and report it. On a terminal, show first what it would send, and ask."""
    dry_run = limits.is_dry_run
    if can_ask() and not (is_answered or dry_run):
        preview = run(replace(limits, per_second=None, is_dry_run=True))
        if not options.json:
            _report(options, preview, columns, dry_run=True)
        if preview.chosen:
            confirm(f"Send these {preview.chosen.total()} deliveries?", is_answered=False)
        elif not options.json:
            return
    _report(options, run(limits), columns, dry_run=dry_run)


def _report(options: Options, result: ReplayResult, columns: tuple[str, ...], *, dry_run: bool) -> None:
    """Print the deliveries by destination, and the reasons why others were left out."""
    replay_id, chosen, left_out = result
    rows = sorted((key if isinstance(key, tuple) else (key,), count) for key, count in chosen.items())
    if options.json:
        emit({
            "replay": replay_id,
            "dryRun": dry_run,
            "sent": 0 if dry_run else chosen.total(),
            "chosen": [dict(zip(columns, key, strict=True)) | {"count": count} for key, count in rows],
            "leftOut": dict(left_out),
            "at": format_time(now_ms()),
        })  # fmt: skip
        return
    options.table((*columns, "deliveries"), ((*key, count) for key, count in rows))
    for why, count in sorted(left_out.items()):
        options.say(f"left out: {count}, {why}")
    done = f"{replay_id}: {chosen.total()} deliveries are on their way"
    options.say(f"{chosen.total()} deliveries would be sent" if dry_run else done)
    if chosen and not dry_run:
        note(f"`attempts --replay {replay_id}` shows their attempts")
