"""``pushrail-stream replay``: dead letters and past events, delivered again."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from pushrail_stream.cli.event_filter import events_asked_for
from pushrail_stream.cli.known import known_destinations
from pushrail_stream.cli.letters import all_dead_letters, dead_letter_options
from pushrail_stream.cli.offsets import offsets
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, say, table
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic, watched
from pushrail_stream.cli.sending import Sender, interruptible
from pushrail_stream.cli.times import MOMENT, now_ms, shown
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topics import check_topics, topics_named
from pushrail_stream.operations.attempts import read_attempt
from pushrail_stream.operations.dead_letters import DeadLetterFilter
from pushrail_stream.operations.delivered_events import DeliveredEvents
from pushrail_stream.operations.replay import (
    MAX_REPLAYS,
    DeadLetterSelection,
    EventFilter,
    EventSelection,
    Progress,
    copy_of,
    progress_key,
    progress_mark,
    read_progress,
)
from pushrail_stream.settings import Settings


@click.group(epilog="Example: pushrail-stream replay dlq --destination dst_acme_8K2zRq --dry-run")
def replay() -> None:
    """Deliver dead letters or past events again, or move the group's offsets."""


replay.add_command(offsets)


@replay.command("dlq", epilog="Example: pushrail-stream replay dlq --destination dst_acme_8K2zRq --reason blocked")
@dead_letter_options
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="At most so many a second.")
@click.option("--again", is_flag=True, help="Also those that have been replayed before.")
@click.option(
    "--max-count", type=click.IntRange(1), default=MAX_REPLAYS, show_default=True,
    help="Leave out what has been replayed so often.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be replayed, and send nothing.")
@common_options
def dlq_(
    options: Options,
    *,
    wanted: DeadLetterFilter,
    limit: int | None,
    rate: float | None,
    again: bool,
    max_count: int,
    dry_run: bool,
) -> None:
    """Deliver dead letters again, each to the one destination that it did not reach.

    They stay in the DLQ; copies go to the first retry topic, due now. Each copy and the mark that it was replayed are
    written together or not at all: a replay that was interrupted goes on when it is started again, and nothing is
    replayed twice unless --again is given; then still each delivery once. Only one replay runs at a time: a new one
    ends the one before. What had no destination when it died, or could not be decoded, goes where it would go today.

    With --json: one object with replay, dryRun, sent, chosen (destination, reason, fault and count of each kind),
    leftOut (why, and how many) and at.
    """
    settings = options.settings
    replay_id = _new_id()
    destinations, refused = known_destinations(settings)
    with (
        _open_journal(settings, dry_run=dry_run) as journal,
        Bar("dead letters", quiet=options.json) as bar,
    ):
        choice = DeadLetterSelection(
            wanted, destinations, _marks(settings, journal), replay_id, again, max_count, bool(refused)
        )
        sender = Sender(journal, settings, rate, bar)
        with interruptible(replay_id, sender, "run it again to go on"):
            _replay_letters(settings, choice, sender, limit, bar)
    _report(options, replay_id, choice.chosen, choice.left_out, ("destination", "reason", "fault"), dry_run=dry_run)


def _replay_letters(
    settings: Settings, choice: DeadLetterSelection, sender: Sender, limit: int | None, bar: Bar
) -> None:
    for letter in all_dead_letters(settings, choice.wanted, bar):
        at = now_ms()
        for destination_id, number, mark in choice.take(letter, at):
            sender.add(copy_of(letter.original(), destination_id, choice.replay_id, number, at), mark)
        if sender.is_full:
            sender.flush()
        if limit is not None and choice.chosen.total() >= limit:
            break
    sender.flush()


@replay.command(epilog="Example: pushrail-stream replay events --customer acct_8K2zRq --since 2h --until 1h")
@click.option("--customer", metavar="ID", help="Of this customer (customerExternalId).")
@click.option("--destination", metavar="ID", help="To this destination only.")
@click.option("--event-type", help="Of exactly this event type.")
@click.option("--since", "since_ms", type=MOMENT, metavar="TIME", help="Produced then or later: RFC 3339, or 2h ago.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Produced before then. [default: now]")
@click.option(
    "--delivered-since",
    "delivered_since_ms",
    type=MOMENT,
    metavar="TIME",
    help="Only events that the delivery log shows as delivered to the destination then or later.",
)
@click.option(
    "--delivered-until", "delivered_until_ms", type=MOMENT, metavar="TIME",
    help="Only events shown as delivered before then. [default: now]",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Of all customers, to all their destinations.")
@click.option("--limit", type=click.IntRange(1), help="End after so many deliveries; one event's stay together.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="At most so many a second.")
@click.option("--resume", metavar="REPLAY", help="Go on with this replay of events, with its filter.")
@click.option("--dry-run", is_flag=True, help="Say what would be replayed, and send nothing.")
@common_options
def events(
    options: Options,
    /,
    *,
    limit: int | None,
    rate: float | None,
    resume: str | None,
    dry_run: bool,
    **filters: Any,
) -> None:
    """Deliver past events again, by the destinations there are now. The group's offsets are not touched.

    Copies go to the first retry topic, due now, one for each destination that wants the event. How far it has come is
    written with them, first of all before anything is sent: what was interrupted goes on with --resume.

    With --delivered-since, only events are sent that EventBridge accepted for the destination in that time. It accepts
    events for a missing bus too.

    With --json: one object with replay, dryRun, sent, chosen (destination and count of each), leftOut (why, and how
    many) and at.
    """
    asked = events_asked_for(resume=resume, **filters)
    settings = options.settings
    destinations, _ = known_destinations(settings)
    destination = asked.destination if asked else None
    if destination is not None and destinations.get(destination) is None:
        raise UsageError(f"--destination: there is no destination {destination}; `destinations list` names them")
    replay_id = resume or _new_id()
    with (
        _open_journal(settings, dry_run=dry_run) as journal,
        Bar("events", quiet=options.json) as bar,
    ):
        progress = Progress(asked, {}) if asked else _progress_of(_marks(settings, journal), replay_id)
        delivered = _delivered_events(settings, progress.wanted, bar)
        choice = EventSelection(progress.wanted, destinations, settings.vendor, delivered)
        sender = Sender(journal, settings, rate, bar)
        with interruptible(replay_id, sender, f"go on with --resume {replay_id}"):
            _replay_events(settings, replay_id, progress, choice, sender, limit, bar)
    _report(options, replay_id, choice.chosen, choice.left_out, ("destination",), dry_run=dry_run)


def _delivered_events(settings: Settings, wanted: EventFilter, bar: Bar) -> DeliveredEvents | None:
    """The events that the delivery log shows as delivered; None when the filter does not ask for them."""
    since_ms, until_ms = wanted.delivered_since_ms, wanted.delivered_until_ms
    if wanted.destination is None or since_ms is None or until_ms is None:
        return None
    delivered = DeliveredEvents(settings.topics.events, wanted.destination, since_ms, until_ms)
    for record in read_topic(settings, settings.topics.attempts, bar, since_ms=since_ms):
        attempt = read_attempt(record.value)
        if attempt is not None:
            delivered.take(attempt)
    return delivered


def _replay_events(
    settings: Settings,
    replay_id: str,
    progress: Progress,
    choice: EventSelection,
    sender: Sender,
    limit: int | None,
    bar: Bar,
) -> None:
    wanted, kafka, topic = progress.wanted, kafka_for(settings), settings.topics.events
    since_ms: int | None = wanted.since_ms
    starts, only = progress.offsets, None
    if choice.delivered is not None:
        since_ms, starts = None, choice.delivered.starts(progress.offsets)
        only = starts.keys()
    # Times stand in no order in a topic: a record of the time asked for may lie anywhere behind its end.
    with Scan(kafka, topic, since_ms=since_ms, starts=starts, only=only) as scan:
        _check_topic(progress, topic, scan.topic_id)
        offsets = {**scan.positions, **progress.offsets}

        def flush() -> None:
            sender.flush(progress_mark(replay_id, Progress(wanted, offsets, scan.topic_id)))

        flush()
        if not sender.is_rehearsal:
            note(f"{replay_id}: if this is cut off, --resume {replay_id} goes on with it")
        for record in watched(scan, bar):
            offsets[record.partition] = record.offset + 1
            for destination_id in choice.take(record):
                sender.add(copy_of(record, destination_id, replay_id, 1, now_ms()))
            if sender.is_full:
                flush()
            if choice.is_complete or (limit is not None and choice.chosen.total() >= limit):
                break
        else:
            choice.finish()
        flush()


def _check_topic(progress: Progress, topic: str, topic_id: str | None) -> None:
    if None not in {progress.topic_id, topic_id} and progress.topic_id != topic_id:
        raise OperatorError(f"--resume: {topic} was created again since then; begin a new replay")


def _new_id() -> str:
    return f"rp-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@contextmanager
def _open_journal(settings: Settings, *, dry_run: bool) -> Iterator[ReplayJournal | None]:
    """None for a rehearsal: it must not end a replay that is running."""
    if dry_run:
        yield None
        return
    kafka, topic = kafka_for(settings), settings.topics.replays
    for caveat in check_topics(kafka, topics_named(settings, topic)):
        note(f"warning: {caveat.problem}")
    with ReplayJournal.open(kafka, topic) as journal:
        yield journal


def _marks(settings: Settings, journal: ReplayJournal | None) -> dict[str, bytes]:
    if journal is None:
        return ReplayJournal.read(kafka_for(settings), settings.topics.replays)
    return journal.marks()


def _progress_of(marks: dict[str, bytes], replay_id: str) -> Progress:
    stored = marks.get(progress_key(replay_id))
    if stored is None:
        raise UsageError(f"--resume: there is no replay of events {replay_id} that has begun")
    progress = read_progress(stored)
    if progress is None:
        raise OperatorError(f"--resume: the progress of {replay_id} cannot be read; somebody else has written it")
    return progress


def _report(
    options: Options,
    replay_id: str,
    chosen: Counter[Any],
    left_out: Counter[str],
    columns: tuple[str, ...],
    *,
    dry_run: bool,
) -> None:
    """What went where, and what did not."""
    rows = sorted((key if isinstance(key, tuple) else (key,), count) for key, count in chosen.items())
    if options.json:
        emit({
            "replay": replay_id,
            "dryRun": dry_run,
            "sent": 0 if dry_run else chosen.total(),
            "chosen": [dict(zip(columns, key, strict=True)) | {"count": count} for key, count in rows],
            "leftOut": dict(left_out),
            "at": shown(now_ms()),
        })  # fmt: skip
        return
    table((*columns, "deliveries"), ((*key, str(count)) for key, count in rows))
    for why, count in sorted(left_out.items()):
        say(f"left out: {count} {why}")
    say(f"{replay_id}: {chosen.total()} deliveries {'would be sent' if dry_run else 'are on their way'}")
    if chosen and not dry_run:
        note(f"`attempts --replay {replay_id}` shows what becomes of them")
