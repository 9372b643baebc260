"""``pushrail-stream replay offsets``: the read position of the workers' group, moved while none of them runs."""

from __future__ import annotations

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, say, table
from pushrail_stream.cli.positions import parse_offset
from pushrail_stream.cli.times import MOMENT
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.groups import Shift, Target, members_of, move_group, plan_shift


@click.command(epilog="Example: pushrail-stream replay offsets --to 2026-11-24T09:00:00Z --dry-run")
@click.option("--to", "target", required=True, metavar="WHERE", help="A time, 2h ago, earliest, latest, or an offset.")
@click.option("--partition", type=click.IntRange(0), help="Of this partition only.")
@click.option("--dry-run", is_flag=True, help="Show old and new offsets, and change nothing.")
@common_options
def offsets(options: Options, *, target: str, partition: int | None, dry_run: bool) -> None:
    """Move the committed offsets of the workers' group on the events topic. No worker may run meanwhile.

    What lies between the old offset and the new one is delivered again, to every destination, or passed over. With
    --json: one object for each partition.
    """
    settings = options.settings
    kafka, group, topic = kafka_for(settings), settings.kafka.group_id, settings.topics.events
    where = _target(target)
    members = members_of(kafka, group)
    if members and not dry_run:
        raise OperatorError(
            f"group {group} is active ({', '.join(members)}): stop its workers first; its offsets stay as they are"
        )
    shifts = plan_shift(kafka, group, topic, where, partition)
    if not shifts:
        raise UsageError(f"--partition: {topic} has no partition {partition}")
    if not dry_run:
        move_group(kafka, group, topic, shifts)
    if options.json:
        for shift in shifts:
            emit({**shift._asdict(), "again": shift.again, "dryRun": dry_run})
        return
    table(("partition", "old", "new", "end", "records"), (_shift_row(shift) for shift in shifts))
    again, past = sum(max(s.again, 0) for s in shifts), sum(max(-s.again, 0) for s in shifts)
    will = "would be" if dry_run else "will be"
    say(f"{again} records {will} delivered again, {past} passed over")


def _shift_row(shift: Shift) -> tuple[str, ...]:
    old = "none" if shift.old is None else str(shift.old)
    return str(shift.partition), old, str(shift.new), str(shift.end), f"{shift.again:+d}"


def _target(text: str) -> Target:
    if text in {"earliest", "latest"}:
        return text
    offset = parse_offset(text)
    if offset is not None:
        return offset
    try:
        return f"time:{MOMENT.convert(text, None, None)}"
    except click.BadParameter:
        what = "a time such as 2026-11-24T09:00:00Z, how long ago (2h, 7d), earliest, latest, or an offset"
        raise UsageError(f"--to: must be {what}") from None
