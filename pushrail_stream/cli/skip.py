"""``pushrail-stream topics skip``: step over a batch of records that no worker can read."""

from __future__ import annotations

from typing import Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, say
from pushrail_stream.cli.positions import parse_position
from pushrail_stream.cli.times import now_ms, shown
from pushrail_stream.core.record import Origin, Partition
from pushrail_stream.core.skips import Skip, find_skip, skip_dead_letter, skip_mark
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.kafka.unreadable import find_unreadable
from pushrail_stream.settings import Settings

_MAX_REASON: Final = 500
"""Characters: the reason stands in an error message of at most 1 KiB."""


@click.command(
    epilog='Example: pushrail-stream topics skip pushrail.events/3/1042 --reason "batch of 600 MB" --dry-run'
)
@click.argument("position")
@click.option("--reason", required=True, help="The reason, which the dead letter shows.")
@click.option("--dry-run", is_flag=True, help="Say which offsets would be stepped over, and change nothing.")
@common_options
def skip(options: Options, *, position: str, reason: str, dry_run: bool) -> None:
    """Step over a batch that no worker can read at POSITION: topic/partition/offset, of the events or a retry topic.

    Kafka's client reads whole batches. A batch stops its partition when it cannot be decompressed, or only to more than
    receive.message.max.bytes; `/readyz`, the log (`partition_unread`) and an alert name the partition. All records of
    that batch from POSITION on are stepped over. None of them can be read or kept: have their producer send them again.
    A record that can be read is never skipped: it is delivered, or becomes a dead letter.

    The order and a dead letter (undecodable, code Skipped) are written together. Workers that run carry it out within
    about half a minute, others when they come to that batch.

    With --json: one object with topic, partition, first, end (excluded), reason, at, dryRun and repeated (whether it
    had been ordered before).
    """
    settings = options.settings
    if not 0 < len(reason.strip()) <= _MAX_REASON:
        raise UsageError(f"--reason: must have 1 to {_MAX_REASON} characters")
    ordered, is_new = _order(settings, parse_position(position), reason.strip())
    if is_new and not dry_run:
        with ReplayJournal.open(kafka_for(settings), settings.topics.replays, role="skip") as journal:
            letter = skip_dead_letter(ordered)
            journal.write(settings.topics.dlq, [(None, None, letter.headers())], [skip_mark(ordered)])
    _report(options, ordered, dry_run=dry_run, is_new=is_new)


def _order(settings: Settings, at: Origin, reason: str) -> tuple[Skip, bool]:
    """The order, and whether it is new."""
    topics, kafka = settings.topics, kafka_for(settings)
    if at.topic != topics.events and at.topic not in topics.retry:
        raise UsageError(f"POSITION: {at.topic} is neither topics.events nor one of topics.retry")
    partition = Partition(at.topic, at.partition)
    same = topic_id(kafka, at.topic)
    known = find_skip(ReplayJournal.read(kafka, topics.replays), partition, at.offset, same)
    if known is not None:
        return known, False
    batch = find_unreadable(kafka, partition, at.offset)
    if batch is None:
        raise OperatorError(
            f"{at} can be read, or no record is left from there on, so nothing has to be skipped. If a worker stands "
            "still there, run this command with that worker's kafka.client: by another receive.message.max.bytes, "
            "other batches can be read"
        )
    group = settings.kafka.group_id if at.topic == topics.events else f"{settings.kafka.group_id}.retry"
    committed = committed_by(kafka, group, at.topic)[at.partition].offset
    if committed >= batch.end:
        raise OperatorError(f"{at}: the workers' group has passed it already (its committed offset is {committed})")
    return Skip(partition, batch.first, batch.end, reason, now_ms(), same), True


def _report(options: Options, ordered: Skip, *, dry_run: bool, is_new: bool) -> None:
    partition, first, end, reason, at_ms, _ = ordered
    if options.json:
        emit({
            "topic": partition.topic, "partition": partition.number, "first": first, "end": end, "reason": reason,
            "at": shown(at_ms), "dryRun": dry_run, "repeated": not is_new,
        })  # fmt: skip
        return
    what = f"{partition}: offsets {first} to {end - 1}, up to {end - first} records that cannot be read"
    if not is_new:
        say(f"{what}: were ordered to be stepped over at {shown(at_ms)} ({reason})")
        return
    say(f"{what}: {'would be' if dry_run else 'will be'} stepped over")
    if not dry_run:
        note(f"a dead letter stands for them (`dlq show {partition}/{first}`); have their producer send them again")
