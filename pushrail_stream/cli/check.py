"""``pushrail-stream check``: whether every delivery of a time is accounted for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any, Final

import click

from pushrail_stream.app import load_registry
from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, remark, say, table
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic
from pushrail_stream.cli.times import MOMENT, now_ms, shown
from pushrail_stream.core.offsets import decode_settled
from pushrail_stream.core.record import Record
from pushrail_stream.history.check import STATUSES, Check, Traced, summarise
from pushrail_stream.history.letters import read_letter
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.settings import Settings

_SHOWN: Final = 100
"""Missing deliveries that are named."""


@click.command(epilog="Example: pushrail-stream check --since 2h --until 1h")
@click.option("--since", "since_ms", type=MOMENT, required=True, metavar="TIME", help="Produced then or later.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Produced before then. [default: now]")
@click.option("--customer", metavar="ID", help="Of this customer (customerExternalId) only.")
@common_options
def check(options: Options, *, since_ms: int, until_ms: int | None, customer: str | None) -> None:
    """Say for each delivery of a time: delivered, dead-lettered, skipped, pending (a worker or a retry topic has it),
    or MISSING: there is no trace of what became of it.

    It reads the events, the attempts log, the DLQ and the retry topics, and the destinations there are now. An event is
    also missing when the attempts log lost its record (pushrail_attempts_log_lost_total), or no longer keeps it.

    Exits 1 when a delivery is missing. With --json: one object.
    """
    settings = options.settings
    until = now_ms() if until_ms is None else until_ms
    if until <= since_ms:
        raise CommandError("--until: must be later than --since", 2)
    catalog, _ = asyncio.run(load_registry(settings, os.environ, opens=False))
    found = Check(catalog, settings.vendor, customer=customer)
    with Bar("records", quiet=options.json) as bar:
        _feed(found, settings, since_ms, until, bar)
    deliveries = list(found.deliveries())
    total, by_destination = summarise(deliveries)
    missing = [delivery for status, delivery in deliveries if status == "missing"]
    if options.json:
        emit({
            "since": shown(since_ms),
            "until": shown(until),
            "events": found.events,
            "deliveries": {status: total[status] for status in STATUSES},
            "repeated": found.repeated,
            "missing": [_as_json(delivery) for delivery in missing[:_SHOWN]],
            "unreadableAttempts": found.unreadable,
        })  # fmt: skip
    else:
        columns = ("destination", *STATUSES)
        rows = sorted(by_destination.items())
        table(columns, ((name, *(str(counts[status]) for status in STATUSES)) for name, counts in rows))
        for delivery in missing[:_SHOWN]:
            say(f"MISSING: {delivery.origin} of {delivery.customer or '?'} to {delivery.destination or 'anybody'}")
        say(f"{found.events} events, {len(deliveries)} deliveries, {len(missing)} missing, {found.repeated} repeated")
        if found.unreadable:
            remark(f"{found.unreadable} records of {settings.topics.attempts} make no sense")
    if missing:
        raise CommandError(f"{len(missing)} deliveries are missing")


def _feed(found: Check, settings: Settings, since_ms: int, until_ms: int, bar: Bar) -> None:
    """Whatever is under way first: what moves on meanwhile is met again further down."""
    topics = settings.topics
    for partition, at in committed_by(kafka_options(settings), settings.kafka.group_id, topics.events).items():
        found.group_is_at(partition, at.offset, decode_settled(at))
    for topic in topics.retry:
        for record in _unsettled(settings, topic, bar):
            found.waits(read_letter(record, settings.vendor))
    for record in read_topic(settings, topics.events, bar, since_ms=since_ms, until_ms=until_ms):
        if since_ms <= record.timestamp_ms < until_ms:
            found.event(record)
    for record in read_topic(settings, topics.attempts, bar, since_ms=since_ms):
        found.attempt(record.value)
    for record in read_topic(settings, topics.dlq, bar, since_ms=since_ms):
        found.letter(read_letter(record, settings.vendor))


def _unsettled(settings: Settings, topic: str, bar: Bar) -> Iterator[Record]:
    """The records of a retry topic that the workers' group has not settled."""
    group = committed_by(kafka_options(settings), f"{settings.kafka.group_id}.retry", topic)
    starts = {number: committed.offset for number, committed in group.items()}
    settled = {number: frozenset(decode_settled(committed)) for number, committed in group.items()}
    for record in read_topic(settings, topic, bar, starts=starts):
        if record.offset not in settled[record.partition]:
            yield record


def _as_json(delivery: Traced) -> dict[str, Any]:
    return {**delivery._asdict(), "origin": str(delivery.origin)}
