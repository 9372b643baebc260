"""``pushrail-stream replay``: dead letters and past events, delivered again."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click

from pushrail_stream.app import load_registry
from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.letters import all_letters, letter_filter
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, remark, say, table
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.times import MOMENT, now_ms, shown
from pushrail_stream.core.record import Record
from pushrail_stream.history.letters import LetterFilter
from pushrail_stream.history.replay import (
    MAX_REPLAYS,
    EventChoice,
    EventFilter,
    LetterChoice,
    Mark,
    Progress,
    ReplayCopy,
    copy_of,
    letter_mark,
    progress_key,
    progress_mark,
    read_progress,
)
from pushrail_stream.kafka.groups import Shift, Target, members_of, move_group, plan_shift
from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.kafka.replays import ReplayJournal
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.registry import Catalog
from pushrail_stream.settings import Settings

_CHUNK: Final = 500
"""Deliveries of one transaction."""


@click.group(epilog="Example: pushrail-stream replay dlq --destination dst_acme_8K2zRq --dry-run")
def replay() -> None:
    """Deliver dead letters or past events again, or move the group's offsets."""


class _Sender:
    """Writes chosen deliveries in transactions, no faster than asked."""

    def __init__(self, journal: ReplayJournal, settings: Settings, rate: float | None) -> None:
        self._journal = journal
        self._topic = next(iter(settings.topics.retry))
        self._rate = rate
        self._began = time.monotonic()
        self._copies: list[ReplayCopy] = []
        self._marks: list[Mark] = []
        self.sent = 0
        self.chunk = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate)))

    def add(self, copy: ReplayCopy, mark: Mark | None = None) -> None:
        self._copies.append(copy)
        if mark is not None:
            self._marks.append(mark)

    @property
    def is_full(self) -> bool:
        return len(self._copies) >= self.chunk

    def flush(self, *more: Mark) -> None:
        """Write what there is, in one transaction; afterwards it counts as sent."""
        if not self._copies and not more:
            return
        self._journal.write(self._topic, self._copies, [*self._marks, *more])
        self.sent += len(self._copies)
        self._copies, self._marks = [], []
        if self._rate is not None:
            time.sleep(max(0.0, self.sent / self._rate - (time.monotonic() - self._began)))


@contextmanager
def _interruptible(replay_id: str, sender: _Sender | None, how: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sent = sender.sent if sender else 0
        remark(f"\ninterrupted: {sent} deliveries of {replay_id} are on their way, the rest is untouched; {how}")
        raise


@replay.command("dlq", epilog="Example: pushrail-stream replay dlq --destination dst_acme_8K2zRq --reason blocked")
@letter_filter
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="At most so many a second.")
@click.option("--again", is_flag=True, help="Also those that have been replayed before.")
@click.option(
    "--max-count", type=click.IntRange(1), default=MAX_REPLAYS, show_default=True,
    help="Leave out what has died in so many replays.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be replayed, and send nothing.")
@common_options
def dlq_(
    options: Options,
    *,
    wanted: LetterFilter,
    limit: int | None,
    rate: float | None,
    again: bool,
    max_count: int,
    dry_run: bool,
) -> None:
    """Deliver dead letters again, each to the one destination that it did not reach.

    They stay in the DLQ; copies go to the first retry topic, due now. Each copy and the mark that it was replayed are
    written together or not at all: a replay that was interrupted goes on when it is started again, and nothing is
    replayed twice unless --again is given. Only one replay runs at a time: a new one ends the one before.

    With --json: one object with replay, sent, byDestination and leftOut.
    """
    settings = options.settings
    replay_id = _new_id()
    catalog = _destinations(settings)
    with _open_journal(settings, dry_run=dry_run) as journal:
        marks = _marks(settings) if journal is None else journal.marks()
        choice = LetterChoice(wanted, catalog, marks, again=again, max_count=max_count)
        sender = None if journal is None else _Sender(journal, settings, rate)
        with Bar("dead letters", quiet=options.json) as bar, _interruptible(replay_id, sender, "run it again to go on"):
            for letter in all_letters(settings, wanted, bar):
                destination_id = choice.take(letter)
                if destination_id is not None and sender is not None:
                    at = now_ms()
                    copy = copy_of(letter.original(), destination_id, replay_id, letter.replays + 1, at)
                    sender.add(copy, letter_mark(letter, replay_id, at))
                    if sender.is_full:
                        sender.flush()
                if limit is not None and choice.chosen.total() >= limit:
                    break
            if sender is not None:
                sender.flush()
    _report(options, replay_id, choice.chosen, choice.left_out, ("destination", "reason"), dry_run=dry_run)


@replay.command(epilog="Example: pushrail-stream replay events --customer acct_8K2zRq --since 2h --until 1h")
@click.option("--customer", metavar="ID", help="Of this customer (customerExternalId).")
@click.option("--destination", metavar="ID", help="To this destination only.")
@click.option("--event-type", help="Of exactly this event type.")
@click.option("--since", "since_ms", type=MOMENT, metavar="TIME", help="Produced then or later: RFC 3339, or 2h ago.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Produced before then. [default: now]")
@click.option("--limit", type=click.IntRange(1), help="At most so many deliveries.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="At most so many a second.")
@click.option("--resume", metavar="REPLAY", help="Go on with this replay of events, with its filter.")
@click.option("--dry-run", is_flag=True, help="Say what would be replayed, and send nothing.")
@common_options
def events(
    options: Options,
    *,
    customer: str | None,
    destination: str | None,
    event_type: str | None,
    since_ms: int | None,
    until_ms: int | None,
    limit: int | None,
    rate: float | None,
    resume: str | None,
    dry_run: bool,
) -> None:
    """Deliver past events again, by the destinations there are now. The group's offsets are not touched.

    Copies go to the first retry topic, due now, one for each destination that wants the event. How far it has come is
    written with them: what was interrupted goes on with --resume.

    With --json: one object with replay, sent, byDestination and leftOut.
    """
    settings = options.settings
    if (since_ms is None) == (resume is None):
        raise CommandError("--since: is required, unless --resume goes on with a replay", 2)
    catalog = _destinations(settings)
    if destination is not None and catalog.get(destination) is None:
        raise CommandError(f"--destination: there is no destination {destination}; `destinations list` names them", 2)
    replay_id = resume or _new_id()
    with _open_journal(settings, dry_run=dry_run) as journal:
        if resume is not None:
            progress = _progress_of(settings, journal, resume)
        else:
            asked = EventFilter(
                since_ms=since_ms or 0,
                until_ms=now_ms() if until_ms is None else until_ms,
                customer=customer,
                destination=destination,
                event_type=event_type,
            )
            progress = Progress(asked, {})
        choice = EventChoice(progress.wanted, catalog, settings.vendor)
        sender = None if journal is None else _Sender(journal, settings, rate)
        how = f"go on with --resume {replay_id}"
        with Bar("events", quiet=options.json) as bar, _interruptible(replay_id, sender, how):
            _replay_events(settings, replay_id, progress, choice, sender, limit, bar)
    _report(options, replay_id, choice.chosen, choice.left_out, ("destination",), dry_run=dry_run)


def _replay_events(
    settings: Settings,
    replay_id: str,
    progress: Progress,
    choice: EventChoice,
    sender: _Sender | None,
    limit: int | None,
    bar: Bar,
) -> None:
    offsets = dict(progress.offsets)
    for record, destinations in _scan_events(settings, progress.wanted, choice, offsets, bar):
        offsets[record.partition] = record.offset + 1
        if sender is not None:
            for destination_id in destinations:
                sender.add(copy_of(record, destination_id, replay_id, 1, now_ms()))
            if sender.is_full:
                sender.flush(progress_mark(replay_id, Progress(progress.wanted, offsets)))
        if limit is not None and choice.chosen.total() >= limit:
            break
    if sender is not None:
        sender.flush(progress_mark(replay_id, Progress(progress.wanted, offsets)))


def _scan_events(
    settings: Settings, wanted: EventFilter, choice: EventChoice, offsets: dict[int, int], bar: Bar
) -> Iterator[tuple[Record, list[str]]]:
    """Records from ``offsets`` or the filter's time on, each with the destinations it goes to."""
    kafka, topic = kafka_options(settings), settings.topics.events
    starts = offsets or None
    with Scan(kafka, topic, since_ms=wanted.since_ms, until_ms=wanted.until_ms, starts=starts) as scan:
        offsets |= {**scan.positions, **offsets}
        for batch in scan:
            for record in batch:
                yield record, list(choice.take(record))
            bar.at(*scan.progress)


@replay.command(epilog="Example: pushrail-stream replay offsets --to 2026-11-24T09:00:00Z --dry-run")
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
    kafka, group, topic = kafka_options(settings), settings.kafka.group_id, settings.topics.events
    where = _target(target)
    members = members_of(kafka, group)
    if members and not dry_run:
        raise CommandError(
            f"group {group} is active ({', '.join(members)}): stop its workers first; its offsets stay as they are"
        )
    shifts = plan_shift(kafka, group, topic, where, partition)
    if not shifts:
        raise CommandError(f"--partition: {topic} has no partition {partition}", 2)
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
    if text.isdigit():
        return int(text)
    try:
        return f"time:{MOMENT.convert(text, None, None)}"
    except click.BadParameter:
        what = "a time such as 2026-11-24T09:00:00Z, how long ago (2h, 7d), earliest, latest, or an offset"
        raise CommandError(f"--to: must be {what}", 2) from None


def _new_id() -> str:
    return f"rp-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def _destinations(settings: Settings) -> Catalog:
    catalog, _ = asyncio.run(load_registry(settings, os.environ, opens=False))
    return catalog


@contextmanager
def _open_journal(settings: Settings, *, dry_run: bool) -> Iterator[ReplayJournal | None]:
    """None for a rehearsal: it must not end a replay that is running."""
    if dry_run:
        yield None
        return
    with ReplayJournal.open(kafka_options(settings), settings.topics.replays) as journal:
        yield journal


def _marks(settings: Settings) -> dict[str, bytes]:
    return dict(ReplayJournal.read(kafka_options(settings), settings.topics.replays))


def _progress_of(settings: Settings, journal: ReplayJournal | None, replay_id: str) -> Progress:
    marks = _marks(settings) if journal is None else journal.marks()
    stored = marks.get(progress_key(replay_id))
    if stored is None:
        raise CommandError(f"--resume: there is no replay of events {replay_id} that has begun", 2)
    return read_progress(stored)


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
