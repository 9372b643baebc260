"""``pushrail-stream destinations pause`` and ``resume``."""

from __future__ import annotations

import click

from pushrail_stream.cli.documents import carry_out
from pushrail_stream.cli.options import Options, audited, common_options
from pushrail_stream.cli.output import emit, format_time, note
from pushrail_stream.operations.times import now_ms


@click.command(epilog="Example: pushrail-stream destinations pause dst_acme_8K2zRq")
@click.argument("destination_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--dry-run", is_flag=True, help="Check the documents, show the changes, and write nothing.")
@common_options
@audited
def pause(options: Options, *, destination_ids: tuple[str, ...], dry_run: bool) -> None:
    """Pause destinations: within 5 s their events are skipped and recorded, until `destinations resume` sends them.

    Only the value of "paused" changes in a document. When one of the documents would be refused, none is written (exit
    code 2). With --json: one object with id, result and document for each ID.
    """
    from pushrail_stream.operations.document_changes import plan_switch

    changes = plan_switch(options.settings, destination_ids, "paused", on=True)
    carry_out(options, changes, is_dry_run=dry_run, changed="paused")


@click.command(epilog="Example: pushrail-stream destinations resume dst_acme_8K2zRq --dry-run")
@click.argument("destination_id", metavar="ID")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Send at most this many events a second.")
@click.option("--dry-run", is_flag=True, help="Show the events that would be sent, and change nothing.")
@common_options
@audited
def resume(options: Options, *, destination_id: str, rate: float | None, dry_run: bool) -> None:
    """Resume a paused destination: its events are delivered again, and those that were skipped are sent, once.

    The delivery log names the skipped events. Copies go to the first retry topic, as with `replay events`; each is
    written together with the progress. Run the command again when it was interrupted: it sends the rest. A destination
    that is not paused gets the skipped events that it has not got yet.

    With --json: one object with id, result, document, dryRun, sent, replays (replay, count and leftOut of each) and at.
    """
    from pushrail_stream.operations.replay import ReplayLimits
    from pushrail_stream.operations.resuming import resume_destination

    limits = ReplayLimits(per_second=rate, is_dry_run=dry_run)
    with options.progress() as progress:
        change, replays = resume_destination(options.settings, destination_id, limits, progress)
    result = "not paused" if change.effect == "unchanged" else "would be resumed" if dry_run else "resumed"
    count = sum(one.chosen.total() for one in replays)
    if options.json:
        emit({
            "id": change.destination_id,
            "result": result,
            "document": change.name,
            "dryRun": dry_run,
            "sent": 0 if dry_run else count,
            "replays": [
                {"replay": one.replay_id, "count": one.chosen.total(), "leftOut": dict(one.left_out)}
                for one in replays
            ],
            "at": format_time(now_ms()),
        })  # fmt: skip
        return
    options.say(f"{change.destination_id}: {result} ({change.name})")
    for one in replays:
        for why, number in sorted(one.left_out.items()):
            options.say(f"left out: {number}, {why}")
    options.say(f"{count} skipped events would be sent" if dry_run else f"{count} skipped events are on their way")
    for one in replays:
        if one.chosen and not dry_run:
            note(f"`attempts --replay {one.replay_id}` shows their attempts")
