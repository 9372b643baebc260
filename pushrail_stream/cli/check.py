"""``pushrail-stream check``: whether every delivery of a time is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.known import known_destinations
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, remark, say, table
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic
from pushrail_stream.cli.times import MOMENT, check_period, now_ms, shown
from pushrail_stream.core.fault import FAULTS
from pushrail_stream.core.offsets import decode_settled
from pushrail_stream.core.record import Record
from pushrail_stream.history.check import STATUSES, Check, Status, Traced, summarise
from pushrail_stream.history.letters import read_letter
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.settings import Settings

_SHOWN: Final = 100
"""Missing deliveries that are named to people."""


@click.command(epilog="Example: pushrail-stream check --since 2h --until 1h")
@click.option("--since", "since_ms", type=MOMENT, required=True, metavar="TIME", help="Produced then or later.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Produced before then. [default: now]")
@click.option("--customer", metavar="ID", help="Of this customer (customerExternalId) only.")
@common_options
def check(options: Options, *, since_ms: int, until_ms: int | None, customer: str | None) -> None:
    """Say for each delivery of a time: delivered, dead-lettered, skipped, pending (a worker or a retry topic has it),
    or MISSING: there is no trace of what became of it.

    It reads the events, the attempts log, the DLQ and the retry topics, and the destinations there are now. An event is
    also missing when the attempts log lost its record (pushrail_attempts_log_lost_total), or no longer keeps it. A
    destination without any trace from before an event, which went to others, is taken for newer ("too_new"): it is
    counted, and whether that is so is yours to judge.

    Exits 1 when a delivery is missing. With --json: one object, with all that are missing or too_new.
    """
    settings = options.settings
    until = now_ms() if until_ms is None else until_ms
    check_period(since_ms, until)
    destinations, refused = known_destinations(settings)
    if refused:
        remark("what is for destinations with refused documents is not looked for")
    found = Check(destinations, settings.vendor, customer=customer)
    _feed(found, settings, since_ms, until, quiet=options.json)
    deliveries = list(found.deliveries())
    if options.json:
        emit({"since": shown(since_ms), "until": shown(until), **_as_json(found, deliveries)})
    else:
        _print(found, deliveries)
        if found.unreadable:
            remark(f"{found.unreadable} records of {settings.topics.attempts} make no sense")
    missing = sum(status == "missing" for status, _ in deliveries)
    if missing:
        raise CommandError(f"{missing} deliveries are missing")


def _as_json(found: Check, deliveries: list[tuple[Status, Traced]]) -> dict[str, Any]:
    total, _ = summarise(deliveries)
    faults = Counter(delivery.fault for _, delivery in deliveries)

    def named(wanted: Status) -> list[dict[str, Any]]:
        return [
            {"origin": str(one.origin), "customer": one.customer, "destination": one.destination, "last": one.last}
            for status, one in deliveries
            if status == wanted
        ]

    return {
        "events": found.events,
        "deliveries": {status: total[status] for status in STATUSES},
        "deadLetteredByFault": {fault: faults[fault] for fault in FAULTS},
        "repeated": found.repeated,
        "missing": named("missing"),
        "tooNew": named("too_new"),
        "unreadableAttempts": found.unreadable,
    }


def _print(found: Check, deliveries: list[tuple[Status, Traced]]) -> None:
    total, by_destination = summarise(deliveries)
    rows = sorted(by_destination.items())
    table(("destination", *STATUSES), ((name, *(str(counts[status]) for status in STATUSES)) for name, counts in rows))
    missing = [delivery for status, delivery in deliveries if status == "missing"]
    for delivery in missing[:_SHOWN]:
        say(f"MISSING: {delivery.origin} of {delivery.customer or '?'} to {delivery.destination or 'anybody'}")
    if len(missing) > _SHOWN:
        say(f"MISSING: {len(missing) - _SHOWN} more (--json names them)")
    faults = Counter(delivery.fault for _, delivery in deliveries)
    if total["dead_lettered"]:
        say(f"dead-lettered: {', '.join(f'{faults[fault]} by fault of the {fault}' for fault in FAULTS)}")
    if total["too_new"]:
        say(f"{total['too_new']} not counted: nothing shows that their destinations were there by then")
    counted = len(deliveries) - total["too_new"]
    say(f"{found.events} events, {counted} deliveries, {len(missing)} missing, {found.repeated} repeated")


def _feed(found: Check, settings: Settings, since_ms: int, until_ms: int, *, quiet: bool) -> None:
    """Whatever is under way first: what moves on meanwhile is met again further down."""
    topics = settings.topics
    for partition, at in committed_by(kafka_options(settings), settings.kafka.group_id, topics.events).items():
        found.group_is_at(partition, at.offset, decode_settled(at))
    for topic in topics.retry:
        for record in _unsettled(settings, topic, quiet=quiet):
            found.waits(read_letter(record, settings.vendor))
    with Bar("events", quiet=quiet) as bar:
        for record in read_topic(settings, topics.events, bar, since_ms=since_ms):
            if since_ms <= record.timestamp_ms < until_ms:
                found.event(record)
    with Bar("attempts", quiet=quiet) as bar:
        for record in read_topic(settings, topics.attempts, bar, since_ms=since_ms):
            found.attempt(record.value)
    with Bar("dead letters", quiet=quiet) as bar:
        for record in read_topic(settings, topics.dlq, bar, since_ms=since_ms):
            found.letter(read_letter(record, settings.vendor))
    _look_back(found, settings, since_ms, quiet=quiet)


def _look_back(found: Check, settings: Settings, since_ms: int, *, quiet: bool) -> None:
    """Whether destinations that were sent nothing were there before: only for their sake is the whole log read."""
    strangers = set(found.strangers())
    if not strangers:
        return
    with Bar("earlier attempts", quiet=quiet) as bar:
        for record in read_topic(settings, settings.topics.attempts, bar):
            destination = (record.key or b"").decode(errors="replace")
            if destination in strangers and record.timestamp_ms < since_ms:
                found.was_there(destination)
                strangers.remove(destination)
                if not strangers:
                    return


def _unsettled(settings: Settings, topic: str, *, quiet: bool) -> Iterator[Record]:
    """The records of a retry topic that the workers' group has not settled."""
    group = committed_by(kafka_options(settings), f"{settings.kafka.group_id}.retry", topic)
    starts = {number: committed.offset for number, committed in group.items()}
    settled = {number: frozenset(decode_settled(committed)) for number, committed in group.items()}
    with Bar(topic, quiet=quiet) as bar:
        for record in read_topic(settings, topic, bar, starts=starts):
            if record.offset not in settled[record.partition]:
                yield record
